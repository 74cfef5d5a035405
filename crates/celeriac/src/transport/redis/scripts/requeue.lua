-- Gives messages back. Only what is still claimed is pushed: another worker may have taken it over.
--
-- ARGV     1 unacked  2 unacked_index  3 started  4 RPUSH (next to be taken) or LPUSH (last)
--          5…  claim, list, message; claim, list, message; …
-- Returns  how many were pushed
-- Whoever may not remove must not push: it would push again with every try.
redis.call('HDEL', ARGV[1], '')

local pushed, refused = 0, nil
for i = 5, #ARGV, 3 do
  if redis.call('HEXISTS', ARGV[1], ARGV[i]) == 1 then
    local done = redis.pcall(ARGV[4], ARGV[i + 1], ARGV[i + 2])
    if type(done) == 'table' and done.err then
      -- It stays claimed; a key of another type must not hold up the others.
      refused = done.err
    else
      redis.call('HDEL', ARGV[1], ARGV[i])
      pushed = pushed + 1
    end
  end
  if redis.call('HEXISTS', ARGV[1], ARGV[i]) == 0 then
    redis.call('ZREM', ARGV[2], ARGV[i])
    redis.call('HDEL', ARGV[3], ARGV[i])
  end
end
return refused and redis.error_reply(refused) or pushed
