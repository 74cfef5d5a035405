-- Keeps a claimed message that nobody can run.
--
-- ARGV     1 unacked  2 unacked_index  3 started  4 deaths  5 unknown  6 claim  7 id
--          8 dead-letter list  9 head of the record  10 reason  11 bytes of the message  12 blanks that it begins with
--          13 how many are kept
-- Returns  the ids of dead letters that fell off
-- A right that is missing must show before anything is kept: it would be kept again with every try.
redis.call('HDEL', ARGV[1], '')
local fallen = {}
local held = redis.call('HGET', ARGV[1], ARGV[6])
if held then
  -- What is held is `[message, exchange, routing key]`; who has parsed that has the message without its first blanks.
  local start = string.find(held, '%S', 2) - tonumber(ARGV[12])
  local message = string.sub(held, start, start + tonumber(ARGV[11]) - 1)
  fallen = keep_dead(ARGV[8], ARGV[9], ARGV[10], message, tonumber(ARGV[13]))
  redis.call('HDEL', ARGV[1], ARGV[6])
  -- Put back into its queue by a person, it begins anew.
  redis.call('HDEL', ARGV[4], ARGV[7])
  redis.call('HDEL', ARGV[5], ARGV[7])
end
redis.call('ZREM', ARGV[2], ARGV[6])
redis.call('HDEL', ARGV[3], ARGV[6])
return fallen
