-- Send a lost chunk of a durable job again. Runs with push.lua.
--
-- KEYS[1]   messages of the job
-- KEYS[2]   queue
-- ARGV[1]   number of the chunk
-- ARGV[2]   seconds that the queue lives at least; longer if the messages do
--
-- Returns 1, or 0 if the chunk is already answered or the job has expired.
--
-- One step, because the chunk may be answered between the read and the write.

local message = redis.call('HGET', KEYS[1], ARGV[1])
if message then
  push(KEYS[2], message, math.max(tonumber(ARGV[2]), redis.call('TTL', KEYS[1])))
  return 1
end
return 0
