-- Put before the scripts that look at what waits. One entry in `unacked` that is no JSON object ends every Python
-- worker's restore (promise M3), so each is parsed before it gets there. cjson alone takes more for numbers than JSON
-- is, and control characters inside of texts.
-- Made when it is needed: most takes need none, and it costs as much as some messages.
local decoder
local function is_parsed(text)
  if not decoder then
    decoder = cjson.new()
    decoder.decode_invalid_numbers(false)
  end
  return pcall(decoder.decode, text)
end

-- More is not parsed: as tables in here it may take 100 times as much.
local PARSED_MAX = 1024 * 1024

-- The message without the text of its body, which is nearly all of a large one: Celery's envelopes begin with it.
local function without_body(message)
  local _, opening = string.find(message, '^{"body": ?"')
  local closing = opening and string.find(message, '"', opening + 1, true)
  local escape = closing and string.find(message, '\\', opening + 1, true)
  if not closing or escape and escape < closing then return message end
  return string.sub(message, 1, opening) .. string.sub(message, closing)
end

-- One search for each is faster than one for a set of them.
local find = string.find
local CONTROL_CHARACTERS = {
  '\0', '\1', '\2', '\3', '\4', '\5', '\6', '\7', '\8', '\9', '\10', '\11', '\12', '\13', '\14', '\15',
  '\16', '\17', '\18', '\19', '\20', '\21', '\22', '\23', '\24', '\25', '\26', '\27', '\28', '\29', '\30', '\31',
}

local function has_control_characters(message)
  for i = 1, 32 do
    if find(message, CONTROL_CHARACTERS[i], 1, true) then return true end
  end
  return false
end

-- What Python's JSON has and cjson refuses, as something that both have: NaN, Infinity, half a surrogate pair. Inside of a
-- text it may be replaced as well: only whether it can be parsed is asked.
local function without_pythons_own(message)
  message = string.gsub(message, '([:%[,]%s*)NaN', '%10')
  message = string.gsub(message, '([:%[,]%s*)%-?Infinity', '%10')
  return (string.gsub(message, '\\u[dD][89a-fA-F]%x%x', '\\u0041'))
end

-- Python's `int` refuses more digits (CPython's `sys.int_info.default_max_str_digits`); a number with a fraction or an
-- exponent is a float, which has no such limit.
local DIGITS_MAX = 4300

local function has_an_integer_too_long(message)
  if #message <= DIGITS_MAX then return false end
  local rest = without_body(message)
  if #rest <= DIGITS_MAX or not find(rest, string.rep('%d', DIGITS_MAX + 1)) then return false end
  rest = string.gsub(string.gsub(rest, '\\.', ''), '"[^"]*"', '')
  for digits, next in string.gmatch(rest, '%f[%w.+-]-?(%d+)(.?)') do
    if #digits > DIGITS_MAX and not find(next, '[.eE]') then return true end
  end
  return false
end

-- Why an entry must not get into `unacked`; nil where it may.
local function refusal(message, max_bytes)
  if #message > max_bytes then
    return 'the message has ' .. #message .. ' bytes, more than ' .. max_bytes .. ' (message_max_bytes)'
  end
  -- At the end first: a search for the last brace looks at every byte.
  local is_closed = string.byte(message, -1) == 125 or string.find(message, '}%s*$')
  if not (is_closed and string.find(message, '^%s*{')) then
    return 'the message is not a JSON object'
  end
  local parsed = message
  if #parsed > PARSED_MAX then parsed = without_body(parsed) end
  -- What is still larger is no message of Celery's; the client reads it at once.
  if #parsed <= PARSED_MAX then
    local is_json, why = is_parsed(parsed)
    if not is_json and not is_parsed(without_pythons_own(parsed)) then
      return 'the message is not JSON: ' .. tostring(why)
    end
    if has_an_integer_too_long(parsed) then
      return 'the message has an integer of more than ' .. DIGITS_MAX .. ' digits, which Python does not read'
    end
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
