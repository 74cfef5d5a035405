-- Keeps a claimed message that nobody can run.
--
-- ARGV     1 unacked  2 unacked_index  3 started  4 deaths  5 unknown  6 claim  7 id  8 dead-letter list  9 record
if redis.call('HEXISTS', ARGV[1], ARGV[6]) == 1 then
  redis.call('LPUSH', ARGV[8], ARGV[9])
  redis.call('HDEL', ARGV[1], ARGV[6])
  -- Put back into its queue by a person, it begins anew.
  redis.call('HDEL', ARGV[4], ARGV[7])
  redis.call('HDEL', ARGV[5], ARGV[7])
end
redis.call('ZREM', ARGV[2], ARGV[6])
redis.call('HDEL', ARGV[3], ARGV[6])
