-- Counts a part of a chord, once for its task id and place in the header, whatever its runs return: the first value
-- stays. Who completes the chord gets the claim to start its body, in the same step. Python's workers run a script of the
-- same effect on the same keys (`CHORD_PART_RETURN_LUA`), so none of this may change alone.
--
-- KEYS     1 parts (.j)  2 what was added to the size (.t)  3 size (.s)  4 who was counted (.d)
--          5 the header's saved result  6 claim (.c)  7 parts that came early (.celeriac-early)
-- ARGV     1 task id  2 part  3 '1': a sorted set of parts, else a list  4 place in the header
--          5 for how many seconds the chord is kept (0: for ever)  6 the same of the header's result
--          7 for how many seconds a claim lasts  8 the caller's token  9 '1': the message was handed out before
--          10 for how many seconds it is known that a chord is over
-- Returns  { parts counted, added or nil, size or nil, 1 if the claim is the caller's, for how many milliseconds more it is
--          another's (0: nobody's, -1: for ever) }; { -1, 0, 0, 0, 0 }: the chord is over, and nothing has changed
local parts, added_key, size_key, counted, header, claim = unpack(KEYS, 1, 6)
local id, part, is_ordered, place = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local seconds, header_seconds = tonumber(ARGV[5]), tonumber(ARGV[6])

-- A client that applies a chord again says so when it sends the last task of the header; to whoever is faster the chord is
-- still over. A message that comes for the first time may be of the new run, so its part is kept for that.
local early = KEYS[7]
if redis.call('GET', claim) == 'done' then
  if ARGV[9] ~= '1' then
    redis.call('RPUSH', early, id, place, part)
    redis.call('EXPIRE', early, ARGV[10])
  end
  return { -1, 0, 0, 0, 0 }
end

local function count_once(id, place, part)
  local member = id .. ':' .. place
  if redis.call('SISMEMBER', counted, member) == 1 then return end
  if is_ordered then
    redis.call('ZADD', parts, place, part)
  else
    redis.call('RPUSH', parts, part)
  end
  redis.call('SADD', counted, member)
end

if redis.call('EXISTS', early) == 1 then
  local kept = redis.call('LRANGE', early, 0, -1)
  for i = 1, #kept, 3 do count_once(kept[i], kept[i + 1], kept[i + 2]) end
  redis.call('DEL', early)
end
count_once(id, place, part)

-- Not the number of members of `counted`: an older worker's part is not in there.
local count
if is_ordered then
  count = redis.call('ZCOUNT', parts, '-inf', '+inf')
else
  count = redis.call('LLEN', parts)
end

if seconds > 0 then
  for _, key in ipairs({ parts, added_key, size_key, counted }) do
    redis.call('EXPIRE', key, seconds)
  end
  if header_seconds > 0 then redis.call('EXPIRE', header, header_seconds) end
end

local added, size = redis.call('GET', added_key), redis.call('GET', size_key)
if not size or count ~= tonumber(size) + tonumber(added or 0) then
  return { count, added, size, 0, 0 }
end
if redis.call('SET', claim, ARGV[8], 'NX', 'EX', ARGV[7]) then
  return { count, added, size, 1, 0 }
end
-- The caller's own claim: the reply to an earlier call was lost. (Python never calls twice with one token.)
if redis.call('GET', claim) == ARGV[8] then
  redis.call('EXPIRE', claim, ARGV[7])
  return { count, added, size, 1, 0 }
end
return { count, added, size, 0, redis.call('PTTL', claim) }
