-- Adds one to the size of a chord that runs, once for each task id. Python adds without looking who.
--
-- KEYS     1 claim (.c)  2 what was added to the size (.t)  3 who was added: ours
-- ARGV     1 task id  2 for how many seconds it is kept (0: for ever)
if redis.call('GET', KEYS[1]) == 'done' then return end
-- Who was added belongs to this run of the chord, and goes with its number: Python removes that one alone.
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end
if redis.call('SADD', KEYS[3], ARGV[1]) == 1 then redis.call('INCRBY', KEYS[2], 1) end
if tonumber(ARGV[2]) > 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[3], ARGV[2])
end
