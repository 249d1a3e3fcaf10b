-- Shorten the claim of a model on a queue, if that model has it.
--
-- KEYS[1]   claim on the queue
-- ARGV[1]   fingerprint of the model
-- ARGV[2]   seconds until the claim ends
--
-- Returns nothing.
--
-- One step, because another model may take the claim between the read and the write.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
