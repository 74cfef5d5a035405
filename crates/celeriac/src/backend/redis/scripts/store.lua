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

for i, key in ipairs(KEYS) do
  local document, seconds, sha1 = ARGV[3 * i - 2], tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
  local stored = redis.pcall('GET', key)
  local answer = ''
  if type(stored) == 'table' then
    -- What is of another type is no result, and is replaced like other rubbish; every other error is one for all.
    if not string.find(stored.err, '^WRONGTYPE') then return stored end
    stored = false
  end
  if stored and string.find(stored, '^{"status": ?"SUCCESS"[,}]') then
    answer = ''
  elseif stored and not is_surely_other(stored) and (sha1 == '' or redis.sha1hex(stored) ~= sha1) then
    answer = redis.sha1hex(stored) .. stored
  else
    if seconds > 0 then
      redis.call('SETEX', key, seconds, document)
    else
      redis.call('SET', key, document)
    end
    redis.call('PUBLISH', key, document)
  end
  answers[i] = answer
end
return answers
