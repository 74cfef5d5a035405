-- Moves an entry that is no message from its queue to the dead letters, in one step. Two workers may
-- have seen the same entry; the second finds it gone and leaves no trace.
--
-- ARGV     1 list  2 entry  3 dead-letter list  4 record
redis.call('LPUSH', ARGV[3], ARGV[4])
if redis.call('LREM', ARGV[1], -1, ARGV[2]) == 0 then
  redis.call('LPOP', ARGV[3])
end
