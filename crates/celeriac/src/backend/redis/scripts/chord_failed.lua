-- Ends a chord whose body was made to fail. As in Python, its parts are left to expire, and without its size no part
-- completes it; ours is over at once, so that a part that is delivered again finds nothing to wait for.
--
-- KEYS     1 claim (.c)  2 size (.s)
-- ARGV     1 the caller's token  2 for how many seconds it is remembered
redis.call('DEL', KEYS[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
end
