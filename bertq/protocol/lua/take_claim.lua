-- Take or renew the claim of a model on a queue.
--
-- KEYS[1]   claim on the queue
-- ARGV[1]   fingerprint of the model
-- ARGV[2]   seconds until the claim ends
--
-- Returns the fingerprint that holds the queue: another one if the claim was refused.
--
-- One step, because another worker may take the claim between the read and the write. EXPIRE renews
-- it, because a full Redis does not refuse that.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return holder
end
if holder then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
return ARGV[1]
