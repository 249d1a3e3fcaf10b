-- Pin a job to a model, unless it is already pinned, or another model has the queue.
--
-- KEYS[1]   record of the job
-- KEYS[2]   claim on the queue of the chunk; a device's queue has none
-- ARGV[1]   fingerprint of the model
--
-- Returns the fingerprint of the job; ARGV[1] if the job has no record. If the job has several
-- chunks and is not pinned, and the queue has been given to another model, returns the fingerprint
-- of the claim.
--
-- One step, because a record that expires between the check and the write would come back with
-- nothing but a fingerprint, because two models may answer at the same time, and because a queue may
-- be given to another model in between.

local chunks, pinned = unpack(redis.call('HMGET', KEYS[1], 'chunks', 'fingerprint'))
if pinned then
  return pinned
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return ARGV[1]
end
local claim = chunks ~= '1' and redis.call('GET', KEYS[2])
if claim and claim ~= ARGV[1] then
  return claim
end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1])
return ARGV[1]
