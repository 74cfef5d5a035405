-- Takes messages from lists into `unacked` in one step. A script does not roll back, so each list is
-- looked at first, the claims are written next, and the pop comes last (promise M1).
--
-- KEYS     the lists, most urgent first, those of one step in the order of the queues; only lists, because what is read
--          here is what wakes us
-- ARGV     1 unacked  2 unacked_index  3 how many  4 claim prefix  5 number of the first claim
--          6 most bytes of a message  7 how many queues  8…  for each queue the tail of its records: `, "", "<queue>"]`
--          then the forms of messages that were parsed before: of each how many parts, and the parts
-- Returns  { list of the foreign entry or 0, numbers of those that were parsed, list, message, list, message, … }
--          A foreign entry must not enter `unacked` (see refusal.lua). It stays where it is, for the client to move.
local want = tonumber(ARGV[3])
local number = tonumber(ARGV[5])
local max_bytes = tonumber(ARGV[6])
local parsed = {}
local reply = { 0, parsed }
local taken = 0

-- A form is what the messages of a kind have in common: parts that stay, and between two of them the inside of a text that
-- changes. A message of the form of one that was parsed is JSON as well, and to see that takes a tenth of the time. Nothing
-- here makes a copy of a message: the server's Lua reads each byte of every new string, one by one.
local queues, forms = tonumber(ARGV[7]), {}
do
  local i = 8 + queues
  while ARGV[i] do
    local last = i + tonumber(ARGV[i])
    forms[#forms + 1] = { unpack(ARGV, i + 1, last) }
    i = last + 1
  end
end

-- All that may stand in a text as it is: no quote, no escape, no control character. Letters are looked for first.
local INSIDE = '^[]-\255#-[ !]*'
-- In longer texts a search for each of the others is faster.
local SHORT_MAX = 256
-- Larger messages are parsed, and of so many in one reply the client is told, for it to make forms of them.
local FORMED_MAX, PARSED_TOLD = 1024 * 1024, 4

local function is_of(form, message)
  local at, has_long_ones = 1, false
  for i, part in ipairs(form) do
    local from, to = find(message, part, at, true)
    if not from then return false end
    if i == 1 then
      if from > 1 then return false end
    elseif from - at <= SHORT_MAX then
      local _, inside = find(message, INSIDE, at)
      if inside + 1 ~= from then return false end
    else
      if find(message, '"', at, true) ~= from then return false end
      has_long_ones = true
    end
    at = to + 1
  end
  if at <= #message then return false end
  return not has_long_ones or not (find(message, '\\', 1, true) or has_control_characters(message))
end

local function is_of_a_known_form(message)
  for i, form in ipairs(forms) do
    if is_of(form, message) then
      -- The next one is most likely of the same.
      forms[1], forms[i] = form, forms[1]
      return true
    end
  end
  return false
end

-- Why it must not be taken; `number`: which one of the reply it will be.
local function is_refused(message, number)
  local may_have_a_form = #message <= max_bytes and #message <= FORMED_MAX
  if may_have_a_form and is_of_a_known_form(message) then return nil end
  local reason = refusal(message, max_bytes)
  if may_have_a_form and not reason and #parsed < PARSED_TOLD then parsed[#parsed + 1] = number end
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
      if is_refused(message, taken + #messages + 1) then
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
