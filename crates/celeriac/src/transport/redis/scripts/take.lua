-- Takes messages from lists into `unacked` in one step. A script does not roll back, so each list is
-- looked at first, the claims are written next, and the pop comes last (promise M1).
--
-- KEYS     the lists, most urgent first, those of one step in the order of the queues; only lists, because what is read
--          here is what wakes us
-- ARGV     1 unacked  2 unacked_index  3 how many  4 claim prefix  5 number of the first claim
--          6 most bytes of a message  7 how many queues  8…  for each queue the tail of its records: `, "", "<queue>"]`
--          then the shapes of messages that were parsed before
-- Returns  { list of the foreign entry or 0, new shapes, list, message, list, message, … }
--          A foreign entry must not enter `unacked` (see refusal.lua). It stays where it is, for the client to move.
local want = tonumber(ARGV[3])
local number = tonumber(ARGV[5])
local max_bytes = tonumber(ARGV[6])
local shapes = {}
local reply = { 0, shapes }
local taken = 0

-- The shape of a message is what is left of it without its texts, as a pattern. A message without escapes and control
-- characters that has the shape of one that was parsed is JSON as well: to see that takes a tenth of the time, and the
-- messages of a queue have few shapes. Nothing here makes a copy of a message: the server's Lua reads each byte of every
-- new string, one by one.
local queues, known = tonumber(ARGV[7]), {}
for i = 8 + queues, #ARGV do known[#known + 1] = ARGV[i] end
local SHAPE_MAX, SHAPES_MAX, PLAIN_MAX = 2000, 4, 1024 * 1024

local function has_a_known_shape(message)
  for i, shape in ipairs(known) do
    if find(message, shape) then
      -- The next one is most likely of the same.
      known[1], known[i] = shape, known[1]
      return true
    end
  end
  return false
end

local function learn(message)
  local structure = string.gsub(message, '%b""', '\1')
  structure = string.gsub(structure, '[^%w%s\1]', '%%%0')
  local shape = '^' .. string.gsub(structure, '\1', '%%b""') .. '$'
  if #shape <= SHAPE_MAX and #shapes < SHAPES_MAX then
    known[#known + 1] = shape
    shapes[#shapes + 1] = shape
  end
end

local function is_refused(message)
  local is_plain = #message <= max_bytes and #message <= PLAIN_MAX and not find(message, '\\', 1, true)
    and not has_control_characters(message)
  if is_plain and has_a_known_shape(message) then return nil end
  local reason = refusal(message, max_bytes)
  if is_plain and not reason then learn(message) end
  return reason
end

-- Inside a script, the server does not say which command it has refused.
local function refused(command, reply)
  return redis.error_reply(reply.err .. " ('" .. command .. "')")
end

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

local function now()
  local clock = redis.call('TIME')
  return clock[1] .. '.' .. string.format('%06d', clock[2])
end

-- Most lists are empty most of the time, and those that are not come first. This read arms all of them, too. Without the
-- right to it all are looked at.
local score
local popped = {}
local filled = redis.pcall('EXISTS', unpack(KEYS))
if failed(filled) then filled = #KEYS end

for i, list in ipairs(KEYS) do
  if taken == want or filled == 0 then break end
  local waiting = redis.pcall('LRANGE', list, taken - want, -1)
  -- A key of another type is a person's mistake; it must not stop the other queues. Another error (a right
  -- that is missing) is the same for all of them, and is told.
  if waiting.err and not string.find(waiting.err, 'WRONGTYPE', 1, true) then
    return refused('lrange', waiting)
  end
  if waiting.err or #waiting > 0 then filled = filled - 1 end
  if not waiting.err and #waiting > 0 then
    score = score or now()
    local tail = ARGV[8 + (i - 1) % queues]
    local records, scores, messages = {}, {}, {}
    for j = #waiting, 1, -1 do
      local message = waiting[j]
      if is_refused(message) then
        reply[1] = i
        break
      end
      local claim = ARGV[4] .. string.format('%028d', number)
      number = number + 1
      messages[#messages + 1] = message
      scores[#scores + 1] = score
      scores[#scores + 1] = claim
      records[#records + 1] = claim
      records[#records + 1] = '[' .. message .. tail
    end
    if #messages > 0 then
      -- An index entry without a record is cleaned up by any worker; the reverse would leak.
      local indexed = redis.pcall('ZADD', ARGV[2], unpack(scores))
      if failed(indexed) then return refused('zadd', indexed) end
      local command, done = 'hset', redis.pcall('HSET', ARGV[1], unpack(records))
      if not failed(done) then
        command, done = 'ltrim', redis.pcall('LTRIM', list, 0, -1 - #messages)
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
      popped[#popped + 1] = list
    end
  end
end

-- Our own pops have disarmed these lists; this read arms them again.
if taken > 0 and taken < want then
  -- What is taken is ours by now: a right that is missing here must not hide it.
  redis.pcall('EXISTS', unpack(popped))
end
return reply
