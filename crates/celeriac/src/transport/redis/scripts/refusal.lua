-- Put before the scripts that look at what waits. One entry in `unacked` that is no JSON object ends every Python
-- worker's restore (promise M3), so each is parsed before it gets there: 8 us for 1 kB. cjson alone takes more for
-- numbers than JSON is, and control characters inside of texts.
local decoder = cjson.new()
decoder.decode_invalid_numbers(false)

local function has_control_characters(message)
  for byte = 0, 31 do
    if string.find(message, string.char(byte), 1, true) then return true end
  end
  return false
end

-- Why an entry must not get into `unacked`; nil where it may.
local function refusal(message, max_bytes)
  if #message > max_bytes then
    return 'the message has ' .. #message .. ' bytes, more than ' .. max_bytes .. ' (message_max_bytes)'
  end
  if not (string.find(message, '^%s*{') and string.find(message, '}%s*$')) then
    return 'the message is not a JSON object'
  end
  local is_json, why = pcall(decoder.decode, message)
  if not is_json then
    return 'the message is not JSON: ' .. tostring(why)
  end
  -- Between texts, some are blanks.
  if has_control_characters(message) then
    local texts = string.gsub(message, '\\.', '')
    for text in string.gmatch(texts, '"([^"]*)"') do
      if has_control_characters(text) then
        return 'the message is not JSON: a text in it has a control character'
      end
    end
  end
end
