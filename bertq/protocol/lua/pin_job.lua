-- Pin a job to a model, unless it is already pinned.
--
-- KEYS[1]   record of the job
-- ARGV[1]   fingerprint of the model
--
-- Returns the fingerprint of the job; ARGV[1] if the job has no record.
--
-- One step, because a record that expires between the check and the write would come back with
-- nothing but a fingerprint, and because two models may answer at the same time.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return ARGV[1]
end
redis.call('HSETNX', KEYS[1], 'fingerprint', ARGV[1])
return redis.call('HGET', KEYS[1], 'fingerprint')
