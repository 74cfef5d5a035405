-- Saves the result of a group, and tells so as Python does.
--
-- KEYS     1 the group
-- ARGV     1 its result  2 for how many seconds it is kept (0: for ever)
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
