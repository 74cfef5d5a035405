-- Adds a binding that is kept while somebody renews it.
--
-- KEYS  1 the exchange's bindings  2 the deadlines of all exchanges
-- ARGV  1 the binding  2 the exchange  3 for how many milliseconds
redis.call('SADD', KEYS[1], ARGV[1])
local clock = redis.call('TIME')
local deadline = clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[3]
redis.call('ZADD', KEYS[2], 'GT', string.format('%.0f', deadline), ARGV[2])
