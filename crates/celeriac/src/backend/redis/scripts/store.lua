-- Stores results that have come together. A SUCCESS that is there stays: a task that is delivered twice must not turn
-- into a failure.
--
-- KEYS     one for each result
-- ARGV     for each: the document, for how many seconds (0: for ever), and the SHA-1 of what may be overwritten whatever
--          it is, or ''
-- Returns  for each: '' (it is stored, or a SUCCESS was), or the SHA-1 of what is stored and that itself, where one has
--          to read it to know
local answers = {}

-- Celery's documents begin with the state, and their keys come once. Others are left to whoever can read them.
local function is_surely_other(stored)
  local status = string.match(stored, '^{"status": ?"([^"\\]+)"[,}]')
  return status ~= nil
end

local function set(key, document, seconds, ...)
  if seconds > 0 then
    return redis.call('SET', key, document, 'EX', seconds, ...)
  end
  return redis.call('SET', key, document, ...)
end

-- What is there already, of any type.
local function replace(key, document, seconds, sha1)
  local stored = redis.pcall('GET', key)
  if type(stored) == 'table' then
    -- What is of another type is no result, and is replaced like other rubbish; every other error is one for all.
    if not string.find(stored.err, '^WRONGTYPE') then return stored end
    stored = false
  end
  if stored and string.find(stored, '^{"status": ?"SUCCESS"[,}]') then return '' end
  if stored and not is_surely_other(stored) and (sha1 == '' or redis.sha1hex(stored) ~= sha1) then
    return redis.sha1hex(stored) .. stored
  end
  set(key, document, seconds)
  redis.call('PUBLISH', key, document)
  return ''
end

for i, key in ipairs(KEYS) do
  local document, seconds, sha1 = ARGV[3 * i - 2], tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
  -- Nothing is there, most of the time.
  if set(key, document, seconds, 'NX') then
    redis.call('PUBLISH', key, document)
    answers[i] = ''
  else
    local answer = replace(key, document, seconds, sha1)
    if type(answer) == 'table' then return answer end
    answers[i] = answer
  end
end
return answers
