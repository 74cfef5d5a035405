-- Puts one message back whose holder has not renewed it, if that is still so.
--
-- ARGV     1 unacked  2 unacked_index  3 claim  4 latest score that counts as expired  5 list  6 message
-- Returns  1 when it was pushed
local score = redis.call('ZSCORE', ARGV[2], ARGV[3])
if not score or tonumber(score) > tonumber(ARGV[4]) then
  return 0
end
local held = redis.call('HEXISTS', ARGV[1], ARGV[3])
if held == 1 then
  redis.call('RPUSH', ARGV[5], ARGV[6])
  redis.call('HDEL', ARGV[1], ARGV[3])
end
redis.call('ZREM', ARGV[2], ARGV[3])
return held
