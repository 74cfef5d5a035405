-- Counts how often a message has come to a worker that does not know its task.
--
-- ARGV     1 unknown  2 id  3 for how many seconds counts are remembered  4 how many are counted at most
-- Returns  how often it has come, this time included, and how many seconds ago it was first
local now = redis.call('TIME')[1]
if redis.call('HLEN', ARGV[1]) >= tonumber(ARGV[4]) then
  redis.call('DEL', ARGV[1])
end
local known = redis.call('HGET', ARGV[1], ARGV[2])
local first, hands = now, 0
if known then
  first, hands = string.match(known, '^(%d+):(%d+)$')
end
hands = hands + 1
redis.call('HSET', ARGV[1], ARGV[2], first .. ':' .. string.format('%d', hands))
redis.call('EXPIRE', ARGV[1], ARGV[3])
return { hands, now - first }
