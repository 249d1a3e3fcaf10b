-- Create a durable job from its messages, and send the first of them. Runs with push.lua and
-- feed.lua.
--
-- KEYS[1]   record of the job; the number of rows of each chunk is already written
-- KEYS[2]   messages of the job, already written
-- KEYS[3]   plan of its rows, already written
-- KEYS[4]   queue
-- KEYS[5]   durable jobs by the time at which they expire
-- ARGV[1]   seconds until the job expires
-- ARGV[2]   min_flight of feed
-- ARGV[3]   max_waiting of feed
-- ARGV[4]   queue_ttl of feed
-- ARGV[5]   number of the plan's parts
-- ARGV[6..] names and values of the record's fields
--
-- Returns 1, or 0 if messages, numbers of rows or parts of the plan are missing. A second run
-- changes nothing: a client repeats it after a lost connection.
--
-- One step, because a job must not exist without all its messages, and its client may end at any
-- time: only Redis can be sure to create the job and send its first chunks together.

if redis.call('HEXISTS', KEYS[1], 'state') == 1 then
  return 1
end
local fields = {}
for index = 6, #ARGV, 2 do
  fields[ARGV[index]] = ARGV[index + 1]
end
local chunks = tonumber(fields.chunks)
if redis.call('HLEN', KEYS[1]) ~= chunks or redis.call('HLEN', KEYS[2]) ~= chunks
    or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[5]) then
  return 0
end
local now = redis.call('TIME')
for name, value in pairs(fields) do
  redis.call('HSET', KEYS[1], name, value)
end
redis.call('HSET', KEYS[1], 'created', now[1] .. '.' .. string.format('%06d', now[2]))
for index = 1, 3 do
  redis.call('EXPIRE', KEYS[index], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now[1])
redis.call('ZADD', KEYS[5], now[1] + ARGV[1], fields.id)
if redis.call('TTL', KEYS[5]) < tonumber(ARGV[1]) then
  redis.call('EXPIRE', KEYS[5], ARGV[1])
end
feed(KEYS[1], KEYS[2], KEYS[4], ARGV[2], ARGV[3], ARGV[4])
return 1
