-- Count an attempt at a chunk, if its job has a record.
--
-- KEYS[1]   record of the job
-- ARGV[1]   field that counts attempts at the chunk
--
-- Returns nothing.
--
-- One step, because a record that expires between the check and the write would come back with
-- nothing but a count.

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
end
