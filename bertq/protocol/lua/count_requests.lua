-- Count requests of one client to one queue.
--
-- KEYS[1]   totals
-- KEYS[2]   clients by the time of their latest request
-- KEYS[3]   queues by the time of their latest request
-- KEYS[4]   stream of the latest requests
-- ARGV[1]   id of the client
-- ARGV[2]   name of the queue
-- ARGV[3]   approximate maximum number of requests in the stream
-- ARGV[4]   maximum number of clients
-- ARGV[5]   maximum number of queues
-- ARGV[6]   seconds until the counters expire
-- ARGV[7..] number of sentences of each request
--
-- Returns nothing.
--
-- One step, because a request of one sentence should not pay for a dozen commands, and because a
-- client is counted only if it is new.

local now = redis.call('TIME')
local seconds = tonumber(now[1])
local rows = 0
for index = 7, #ARGV do
  rows = rows + tonumber(ARGV[index])
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'client', ARGV[1], 'rows', ARGV[index])
end
redis.call('HINCRBY', KEYS[1], 'requests', #ARGV - 6)
redis.call('HINCRBY', KEYS[1], 'sequences', rows)
if redis.call('ZADD', KEYS[2], seconds, ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'clients', 1)
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[4] - 1)
end
redis.call('ZADD', KEYS[3], seconds, ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -ARGV[5] - 1)
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[6])
end
