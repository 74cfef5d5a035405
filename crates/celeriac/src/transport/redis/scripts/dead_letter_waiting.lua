-- Moves the next entry of a queue to the dead letters if it must not be taken, in one step. Two workers may have seen
-- the same entry; the second finds another one, and leaves it alone.
--
-- ARGV     1 list  2 most bytes of a message  3 dead-letter list  4 head of the record  5 how many are kept
-- Returns  { reason, bytes, ids of dead letters that fell off }, or nothing
local message = redis.call('LINDEX', ARGV[1], -1)
local reason = message and refusal(message, tonumber(ARGV[2]))
if not reason then
  return {}
end
-- Whoever may not remove must not keep.
redis.call('RPOP', ARGV[1], 0)
local fallen = keep_dead(ARGV[3], ARGV[4], reason, message, tonumber(ARGV[5]))
redis.call('RPOP', ARGV[1])
return { reason, #message, fallen }
