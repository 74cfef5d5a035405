-- Puts messages back whose holder is gone, each only if that is still so: the holder has not counted up its number
-- meanwhile (it would have heard that it was declared dead), or nobody has renewed the claim; or the holder itself puts
-- back what it does not know (then the latest score is beyond all others). A start that ended in the holder's death is
-- counted; a message with too many of them stays claimed, for the client to set aside.
--
-- ARGV     1 unacked  2 unacked_index  3 started  4 deaths  5 workers
--          6 the holder, or '': any  7 the holder's number, or the latest score that counts as expired
--          8 how many deaths are too many  9 for how many seconds deaths are remembered
--          10…  claim, list, message, id ('': unreadable, cannot have been started); claim, list, …
-- Returns  how many were put back, then the claims that stay
local holder = ARGV[6]
if holder ~= '' and redis.call('HGET', ARGV[5], holder) ~= ARGV[7] then
  return { 0 }
end
-- A right that is missing must show before anything is pushed.
redis.call('HDEL', ARGV[1], '')
redis.call('HDEL', ARGV[3], '')
local restored = 0
local reply = { 0 }
for i = 10, #ARGV, 4 do
  local claim, list, message, id = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local score = redis.call('ZSCORE', ARGV[2], claim)
  local is_due = score and (holder ~= '' or tonumber(score) <= tonumber(ARGV[7]))
  if is_due and redis.call('HEXISTS', ARGV[1], claim) == 0 then
    redis.call('ZREM', ARGV[2], claim)
  elseif is_due then
    local deaths = 0
    if id ~= '' then
      if redis.call('HEXISTS', ARGV[3], claim) == 1 then
        deaths = redis.call('HINCRBY', ARGV[4], id, 1)
        redis.call('EXPIRE', ARGV[4], ARGV[9])
        redis.call('HDEL', ARGV[3], claim)
      else
        deaths = tonumber(redis.call('HGET', ARGV[4], id) or '0')
      end
    end
    if deaths >= tonumber(ARGV[8]) then
      reply[#reply + 1] = claim
    else
      -- A list that cannot be pushed to (a key of another type) must not hold up the others.
      local pushed = redis.pcall('RPUSH', list, message)
      if not (type(pushed) == 'table' and pushed.err) then
        redis.call('HDEL', ARGV[1], claim)
        redis.call('ZREM', ARGV[2], claim)
        restored = restored + 1
      end
    end
  end
end
reply[1] = restored
return reply
