-- Put before the scripts that keep dead letters. A record is one JSON object in a list, the newest first:
-- `head` is its beginning as the client wrote it, without the closing brace. The message is kept byte for byte: its
-- characters, encoded as `encoding` says, are its bytes; latin-1 has a character for every byte.
local function is_utf8(text)
  if not string.find(text, '[\128-\255]') then return true end
  for _, sequence in ipairs({
    '[\194-\223][\128-\191]',
    '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]', '\237[\128-\159][\128-\191]',
    '\240[\144-\191][\128-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191][\128-\191]',
    '\244[\128-\143][\128-\191][\128-\191]',
  }) do
    -- Not by nothing: its neighbours could then make a sequence that was none.
    text = string.gsub(text, sequence, '.')
  end
  return not string.find(text, '[\128-\255]')
end

-- Returns the ids of those that fell off at the other end.
local function keep_dead(list, head, reason, message, most)
  local encoding = 'utf-8'
  local quoted = cjson.encode(message)
  if not is_utf8(message) then
    encoding = 'latin-1'
    quoted = string.gsub(quoted, '[\128-\255]', function(byte)
      return string.format('\\u%04x', string.byte(byte))
    end)
  end
  local record = head .. ', "reason": ' .. cjson.encode(reason) .. ', "encoding": "' .. encoding
    .. '", "message": ' .. quoted .. '}'
  local fallen = {}
  for _ = most + 1, redis.call('LPUSH', list, record) do
    fallen[#fallen + 1] = string.match(redis.call('RPOP', list) or '', '"id": "([^"]*)"') or '?'
  end
  return fallen
end
