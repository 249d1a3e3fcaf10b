-- Read the record of a job, and count the delivery of one of its chunks if the job is active.
--
-- KEYS[1]   record of the job
-- ARGV[1]   field that counts attempts at the chunk
-- ARGV[2]   field that counts redeliveries of the chunk
-- ARGV[3]   "new" counts an attempt, if it is the first one; "again" counts a redelivery, and the
--           first attempt if it is not counted yet; any other value counts nothing
--
-- Returns the fields state, chunks, fingerprint, ARGV[1] and ARGV[2], as they were before, except
-- that a first attempt is included.
--
-- One step, because a record that expires between the read and the write would come back with
-- nothing but a count, and because a chunk should cost one command.

local found = redis.call(
  'HMGET', KEYS[1], 'state', 'chunks', 'fingerprint', ARGV[1], ARGV[2])
if found[1] == 'active' then
  if ARGV[3] == 'again' then
    redis.call('HINCRBY', KEYS[1], ARGV[2], 1)
    if redis.call('HSETNX', KEYS[1], ARGV[1], 1) == 1 then
      found[4] = '1'
    end
  elseif ARGV[3] == 'new' and not found[4] then
    redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
  end
end
return found
