-- The lookout gives up its post, and wakes the one that has waited longest.
--
-- ARGV     1 lookout  2 relief  3 who gives up  4 seconds for which a token is of use
local holder = redis.call('GET', ARGV[1])
if not holder or holder == ARGV[3] then
  redis.call('DEL', ARGV[1])
  if redis.call('LLEN', ARGV[2]) == 0 then
    redis.call('LPUSH', ARGV[2], ARGV[3])
    redis.call('EXPIRE', ARGV[2], ARGV[4])
  end
end
