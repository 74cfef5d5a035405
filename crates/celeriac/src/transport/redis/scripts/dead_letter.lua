-- Keeps a claimed message that nobody can run.
--
-- ARGV     1 unacked  2 unacked_index  3 claim
--          4 dead-letter list  5 head of the record  6 reason  7 bytes of the message  8 how many are kept
-- Returns  the ids of dead letters that fell off
local fallen = {}
local held = redis.call('HGET', ARGV[1], ARGV[3])
if held then
  -- What is held is `[message, exchange, routing key]`.
  local message = string.sub(held, 2, 1 + tonumber(ARGV[7]))
  fallen = keep_dead(ARGV[4], ARGV[5], ARGV[6], message, tonumber(ARGV[8]))
  redis.call('HDEL', ARGV[1], ARGV[3])
end
redis.call('ZREM', ARGV[2], ARGV[3])
return fallen
