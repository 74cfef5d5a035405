-- Puts a dead letter back into a queue, once: who comes second finds it gone.
--
-- ARGV     1 dead-letter list  2 record  3 list of the queue  4 message
-- Returns  1 when it was put back
if not redis.call('LPOS', ARGV[1], ARGV[2]) then
  return 0
end
-- Whoever may not remove must not push: it would push again with every try.
redis.call('LREM', ARGV[1], 1, '')
redis.call('LPUSH', ARGV[3], ARGV[4])
redis.call('LREM', ARGV[1], 1, ARGV[2])
return 1
