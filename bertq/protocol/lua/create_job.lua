-- Write the record of a job, and put one of its chunks on a queue. Runs with push.lua.
--
-- KEYS[1]   record of the job
-- KEYS[2]   queue
-- ARGV[1]   message of the chunk
-- ARGV[2]   seconds that the record lives
-- ARGV[3]   seconds that the queue lives at least
-- ARGV[4..] names and values of the record's fields
--
-- Returns the number of messages that wait on the queue.
--
-- One step, because a worker drops a chunk whose job has no record, and because a request of one
-- sentence should cost one round trip.

redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return push(KEYS[2], ARGV[1], ARGV[3])
