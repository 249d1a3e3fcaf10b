-- Read the record of a job, and count the delivery of one of its chunks if the job is active, and the
-- worker has the model that must answer it.
--
-- KEYS[1]   record of the job
-- KEYS[2]   claim on the queue of the chunk; a device's queue has none
-- ARGV[1]   field that counts attempts at the chunk
-- ARGV[2]   field that counts redeliveries of the chunk
-- ARGV[3]   "new" counts an attempt, if it is the first one; "again" and "uncounted" do so, and count
--           a redelivery; any other value counts nothing
-- ARGV[4]   fingerprint of the worker's model
--
-- Returns the fields state, chunks, fingerprint, ARGV[1] and ARGV[2], as they were before, except
-- that "uncounted" includes a first attempt: the chunk may have been begun in a group, which counts
-- none. If no answer has pinned a job of several chunks yet, and the
-- queue has been given to another model, the fingerprint is that of the claim.
--
-- One step, because a record that expires between the read and the write would come back with
-- nothing but a count, and because a chunk should cost one command.

local found = redis.call(
  'HMGET', KEYS[1], 'state', 'chunks', 'fingerprint', ARGV[1], ARGV[2])
if found[1] == 'active' then
  if not found[3] and found[2] ~= '1' then
    local claim = redis.call('GET', KEYS[2])
    if claim and claim ~= ARGV[4] then
      found[3] = claim
    end
  end
  if found[3] and found[3] ~= ARGV[4] then
    return found
  end
  local is_again = ARGV[3] == 'again' or ARGV[3] == 'uncounted'
  if is_again then
    redis.call('HINCRBY', KEYS[1], ARGV[2], 1)
  end
  if (is_again or ARGV[3] == 'new') and not found[4] then
    redis.call('HSET', KEYS[1], ARGV[1], 1)
    if ARGV[3] == 'uncounted' then
      found[4] = '1'
    end
  end
end
return found
