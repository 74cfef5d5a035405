-- Makes a claim last longer; one that has ended is taken again, if nobody else has and the chord is still there. Python's
-- workers run a script of the same effect (`CHORD_CLAIM_EXTEND_LUA`).
--
-- KEYS     1 claim (.c)  2 size (.s)
-- ARGV     1 the caller's token  2 for how many seconds
-- Returns  1: the claim is the caller's, 0: it is not
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if owner or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
