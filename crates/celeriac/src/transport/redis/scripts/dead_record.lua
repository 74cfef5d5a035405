-- Put before the scripts that keep dead letters. A record is a line of JSON, `head` being its beginning as the client
-- wrote it, and behind the line the message, byte for byte: nothing has to be quoted, which for a large one takes seconds.
--
-- Returns the ids of those that fell off at the other end of the list.
local function keep_dead(list, head, reason, message, most)
  local record = head .. ', "reason": ' .. cjson.encode(reason) .. '}\n' .. message
  local fallen = {}
  for _ = most + 1, redis.call('LPUSH', list, record) do
    fallen[#fallen + 1] = string.match(redis.call('RPOP', list) or '', '^{"id": "([^"]*)"') or '?'
  end
  return fallen
end
