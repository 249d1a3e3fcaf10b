-- Count requests of one client.
--
-- KEYS[1]   totals
-- KEYS[2]   clients by the time of their latest request
-- KEYS[3]   queues by the time of their latest request
-- KEYS[4]   stream of the latest requests
-- ARGV[1]   id of the client
-- ARGV[2]   approximate maximum number of entries in the stream
-- ARGV[3]   maximum number of clients
-- ARGV[4]   maximum number of queues
-- ARGV[5]   seconds until the counters expire
-- ARGV[6]   number of requests
-- ARGV[7]   number of their sentences
-- ARGV[8]   number of names of queues that follow
-- ARGV[9..] names of the queues; then, for each entry of the stream, the fields rows and ages
--
-- Returns nothing.
--
-- One step, because a client is counted only if it is new.

local seconds = tonumber(redis.call('TIME')[1])
local queues = tonumber(ARGV[8])
for index = 9 + queues, #ARGV, 2 do
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], '*',
    'client', ARGV[1], 'rows', ARGV[index], 'ages', ARGV[index + 1])
end
redis.call('HINCRBY', KEYS[1], 'requests', ARGV[6])
redis.call('HINCRBY', KEYS[1], 'sequences', ARGV[7])
if redis.call('ZADD', KEYS[2], seconds, ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'clients', 1)
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[3] - 1)
end
for index = 9, 8 + queues do
  redis.call('ZADD', KEYS[3], seconds, ARGV[index])
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -ARGV[4] - 1)
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[5])
end
