-- Takes messages from lists into `unacked` in one step. A script does not roll back, so each list is
-- looked at first, the claims are written next, and the pop comes last (promise M1).
--
-- KEYS     the lists, most urgent first; only lists, because what is read here is what wakes us
-- ARGV     1 unacked  2 unacked_index  3 how many  4 claim prefix  5 number of the first claim
--          6 most bytes of a message  7…  for each list the tail of its record: `, "", "<queue>"]`
--          then the shapes of messages that were parsed before
-- Returns  { list of the foreign entry or 0, new shapes, list, message, list, message, … }
--          A foreign entry must not enter `unacked` (see refusal.lua). It stays where it is, for the client to move.
local want = tonumber(ARGV[3])
local number = tonumber(ARGV[5])
local clock = redis.call('TIME')
local score = clock[1] .. '.' .. string.format('%06d', clock[2])
local max_bytes = tonumber(ARGV[6])
local shapes = {}
local reply = { 0, shapes }
local taken = 0

-- The shape of a message is what is left of it without its texts. A message without escapes and control characters
-- whose shape is that of one that was parsed is JSON as well: this takes a third of the time, and the messages of a
-- queue have few shapes. \1 stands for a text: no such message has it.
local known = {}
for i = 7 + #KEYS, #ARGV do known[ARGV[i]] = true end
local SHAPE_MAX, SHAPES_MAX, TOGETHER_MAX = 1000, 4, 1024 * 1024

local function is_plain(text)
  return not (string.find(text, '\\', 1, true) or has_control_characters(text))
end

-- Looking at all of them at once is faster.
local function are_plain(messages)
  local bytes = 0
  for _, message in ipairs(messages) do bytes = bytes + #message end
  return bytes <= TOGETHER_MAX and is_plain(table.concat(messages))
end

local function is_refused(message, is_known_to_be_plain)
  if #message > max_bytes or #message > TOGETHER_MAX or not (is_known_to_be_plain or is_plain(message)) then
    return refusal(message, max_bytes)
  end
  local shape = string.gsub(message, '%b""', '\1')
  if known[shape] then return nil end
  local reason = refusal(message, max_bytes)
  if not reason and #shape <= SHAPE_MAX and #shapes < SHAPES_MAX then
    known[shape] = true
    shapes[#shapes + 1] = shape
  end
  return reason
end

-- Inside a script, the server does not say which command it has refused.
local function refused(command, reply)
  return redis.error_reply(reply.err .. " ('" .. command .. "')")
end

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

for i, list in ipairs(KEYS) do
  if taken == want then break end
  local waiting = redis.pcall('LRANGE', list, taken - want, -1)
  -- A key of another type is a person's mistake; it must not stop the other queues. Another error (a right
  -- that is missing) is the same for all of them, and is told.
  if waiting.err and not string.find(waiting.err, 'WRONGTYPE', 1, true) then
    return refused('lrange', waiting)
  end
  if not waiting.err and #waiting > 0 then
    local records, scores, messages = {}, {}, {}
    local plain = are_plain(waiting)
    for j = #waiting, 1, -1 do
      local message = waiting[j]
      if is_refused(message, plain) then
        reply[1] = i
        break
      end
      local claim = ARGV[4] .. string.format('%012d', number)
      number = number + 1
      messages[#messages + 1] = message
      scores[#scores + 1] = score
      scores[#scores + 1] = claim
      records[#records + 1] = claim
      records[#records + 1] = '[' .. message .. ARGV[6 + i]
    end
    if #messages > 0 then
      -- An index entry without a record is cleaned up by any worker; the reverse would leak.
      local indexed = redis.pcall('ZADD', ARGV[2], unpack(scores))
      if failed(indexed) then return refused('zadd', indexed) end
      local command, done = 'hset', redis.pcall('HSET', ARGV[1], unpack(records))
      if not failed(done) then
        command, done = 'rpop', redis.pcall('RPOP', list, #messages)
      end
      if failed(done) then
        for j = 2, #scores, 2 do
          redis.pcall('HDEL', ARGV[1], scores[j])
          redis.pcall('ZREM', ARGV[2], scores[j])
        end
        return refused(command, done)
      end
      for _, message in ipairs(messages) do
        reply[#reply + 1] = i
        reply[#reply + 1] = message
      end
      taken = taken + #messages
    end
  end
end

-- Our own pops have disarmed the lists they touched; this read arms all of them again.
if taken < want then
  -- What is taken is ours by now: a right that is missing here must not hide it.
  redis.pcall('EXISTS', unpack(KEYS))
end
return reply
