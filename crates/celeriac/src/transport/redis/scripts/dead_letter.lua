-- Keeps a claimed message that nobody can run.
--
-- ARGV     1 unacked  2 unacked_index  3 claim  4 dead-letter list  5 record
if redis.call('HEXISTS', ARGV[1], ARGV[3]) == 1 then
  redis.call('LPUSH', ARGV[4], ARGV[5])
  redis.call('HDEL', ARGV[1], ARGV[3])
end
redis.call('ZREM', ARGV[2], ARGV[3])
