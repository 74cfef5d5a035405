-- Sends the body of a chord and ends the chord, in one step. The rest as `chord_done.lua`.
--
-- KEYS     as there
-- ARGV     1 and 2 as there  3 the database of these keys  4… database, list and message of each call of the body
-- Returns  as there
local owner = redis.call('GET', KEYS[1])
if owner == 'done' then return 1 end
if owner ~= ARGV[1] then return 0 end
-- First what may be refused.
for i = 4, #ARGV, 3 do
  redis.call('SELECT', ARGV[i])
  redis.call('LPUSH', ARGV[i + 1], ARGV[i + 2])
end
redis.call('SELECT', ARGV[3])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
