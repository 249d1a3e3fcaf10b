-- Take or renew a lease.
--
-- KEYS[1]   lease
-- ARGV[1]   name of the holder
-- ARGV[2]   seconds until the lease ends
--
-- Returns the name that has the lease: another one if it was refused.
--
-- One step, because another holder may take the lease between the read and the write. EXPIRE renews
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
