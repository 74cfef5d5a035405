-- Stores results that have come together. A SUCCESS that is there stays: a task that is delivered twice must not turn
-- into a failure.
--
-- KEYS     one for each result
-- ARGV     how many of them are few; for each: the document, and for how many seconds (0: for ever); then, where one has
--          been looked at: for each, the SHA-1 of what may be overwritten whatever it is, or ''
-- Returns  for each that one has to read to know whether it is a SUCCESS: its number, the SHA-1 of what is stored, and that.
--          All others are stored, or a SUCCESS was; where few came together, for each of these that nobody was told of:
--          its number, '', ''
local call = redis.call
local answers = {}
local few = tonumber(ARGV[1])

local function publish(i, key, document)
  if call('PUBLISH', key, document) == 0 and #KEYS <= few then
    answers[#answers + 1] = i
    answers[#answers + 1] = ''
    answers[#answers + 1] = ''
  end
end

-- Celery's documents begin with the state, and their keys come once. Others are left to whoever can read them.
local function is_surely_other(stored)
  local status = string.match(stored, '^{"status": ?"([^"\\]+)"[,}]')
  return status ~= nil
end

local function set(key, document, seconds, condition)
  if seconds == '0' then return call('SET', key, document, condition) end
  return call('SET', key, document, condition, 'EX', seconds)
end

-- What is there already, of any type.
local function replace(i, key, document, seconds)
  local sha1 = ARGV[1 + 2 * #KEYS + i] or ''
  local stored = redis.pcall('GET', key)
  if type(stored) == 'table' then
    -- What is of another type is no result, and is replaced like other rubbish; every other error is one for all.
    if not string.find(stored.err, '^WRONGTYPE') then return stored end
    stored = false
  end
  if stored and string.find(stored, '^{"status": ?"SUCCESS"[,}]') then return end
  if stored and not is_surely_other(stored) and (sha1 == '' or redis.sha1hex(stored) ~= sha1) then
    answers[#answers + 1] = i
    answers[#answers + 1] = redis.sha1hex(stored)
    answers[#answers + 1] = stored
    return
  end
  set(key, document, seconds, 'XX')
  publish(i, key, document)
end

for i, key in ipairs(KEYS) do
  local document, seconds = ARGV[2 * i], ARGV[2 * i + 1]
  -- Nothing is there, of most failures.
  if set(key, document, seconds, 'NX') then
    publish(i, key, document)
  else
    local refused = replace(i, key, document, seconds)
    if refused then return refused end
  end
end
return answers
