-- Ends a chord whose body was sent. It is remembered for a while, so that a part that is delivered again begins nothing.
-- Python's workers run a script of the same effect (`CHORD_CLEANUP_LUA`); the last key is ours, and goes where the chord
-- goes.
--
-- KEYS     1 claim (.c)  2 parts (.j)  3 what was added to the size (.t)  4 size (.s)  5 who was counted (.d)  6 who was added
-- ARGV     1 the caller's token  2 for how many seconds it is remembered
-- Returns  1: it is over, 0: another has the claim, or nobody, and nothing has changed
local owner = redis.call('GET', KEYS[1])
-- The reply to an earlier call was lost. (Python says 0 here, and never calls twice.)
if owner == 'done' then return 1 end
if owner ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
