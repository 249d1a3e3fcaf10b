-- Send a lost chunk of a durable job again.
--
-- KEYS[1]   messages of the job
-- KEYS[2]   queue
-- ARGV[1]   number of the chunk
--
-- Returns 1, or 0 if the chunk is already answered or the job has expired.
--
-- One step, because the chunk may be answered between the read and the write.

local message = redis.call('HGET', KEYS[1], ARGV[1])
if message then
  redis.call('LPUSH', KEYS[2], message)
  return 1
end
return 0
