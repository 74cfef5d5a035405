-- Moves the claims of a living worker to the server's present.
--
-- ARGV     1 unacked_index  2…  claims
-- Returns  the claims that are gone: another worker has restored them
local clock = redis.call('TIME')
local score = clock[1] .. '.' .. string.format('%06d', clock[2])
local lost = {}
for i = 2, #ARGV do
  if redis.call('ZSCORE', ARGV[1], ARGV[i]) then
    redis.call('ZADD', ARGV[1], 'XX', score, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
