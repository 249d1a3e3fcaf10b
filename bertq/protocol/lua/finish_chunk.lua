-- Keep the result of a chunk of a durable job, announce it and send further chunks. Runs with
-- push.lua and feed.lua.
--
-- KEYS[1]   record of the job
-- KEYS[2]   messages of the job
-- KEYS[3]   result of the chunk; the same transaction has just written it, to expire soon
-- KEYS[4]   stream of the job's notices
-- KEYS[5]   queue
-- ARGV[1]   number of the chunk
-- ARGV[2]   id of its task
-- ARGV[3]   size of the result in bytes
-- ARGV[4]   1 if the chunk failed, else 0
-- ARGV[5]   min_flight of feed
-- ARGV[6]   max_waiting of feed
-- ARGV[7]   queue_ttl of feed
--
-- Returns 1, or 0 if the answer does not count: the job is cancelled or has expired, or the chunk
-- is already answered.
--
-- One step, because a chunk may be answered twice, and only the first answer may count rows and
-- send further chunks. The worker may die after it; nothing may be left to do.

local state, chunks = unpack(redis.call('HMGET', KEYS[1], 'state', 'chunks'))
if not state or state == 'cancelled' then
  redis.call('UNLINK', KEYS[3])
  return 0
end
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[3], left)
local size = redis.call('HSTRLEN', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local places = 'places:' .. ARGV[1]
local rows = redis.call('HGET', KEYS[1], places) or 0
redis.call('HDEL', KEYS[1], places)
redis.call('HINCRBY', KEYS[1], 'bytes', ARGV[3] - size)
redis.call('HINCRBY', KEYS[1], ARGV[4] == '1' and 'failed' or 'done', rows)
redis.call('XADD', KEYS[4], '*', 'task', ARGV[2])
redis.call('PEXPIRE', KEYS[4], left)
if redis.call('EXISTS', KEYS[2]) == 0 then
  local failed = redis.call('HGET', KEYS[1], 'failed')
  redis.call('HSET', KEYS[1], 'state', failed and 'failed' or 'done')
else
  feed(KEYS[1], KEYS[2], KEYS[5], ARGV[5], ARGV[6], ARGV[7])
end
return 1
