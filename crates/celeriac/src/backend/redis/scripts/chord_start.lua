-- Begins a chord. The last message of its header is sent after this: a part that comes before is counted, and waits.
--
-- KEYS     1 claim (.c)  2 size (.s)  3 the header's saved result
-- ARGV     1 size  2 for how many seconds it is kept (0: for ever)  3 the header's result, or '': none is saved
--          4 '1': whoever starts it may have done so before
-- Returns  'started'; or, in the last case, 'running' or 'over', and nothing has changed
if ARGV[4] == '1' then
  if redis.call('GET', KEYS[1]) == 'done' then return 'over' end
  if redis.call('EXISTS', KEYS[2]) == 1 then return 'running' end
  -- A claim outlives the size where a worker in Python has made the body fail.
  if redis.call('EXISTS', KEYS[1]) == 1 then return 'over' end
end
local function set(key, value)
  if tonumber(ARGV[2]) > 0 then
    redis.call('SET', key, value, 'EX', ARGV[2])
  else
    redis.call('SET', key, value)
  end
end
if ARGV[3] ~= '' then set(KEYS[3], ARGV[3]) end
-- A chord that is applied again is another run of it.
redis.call('DEL', KEYS[1])
set(KEYS[2], ARGV[1])
return 'started'
