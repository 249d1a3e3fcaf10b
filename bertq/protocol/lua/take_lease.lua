-- Take or renew a lease, which one holder at a time has.
--
-- KEYS[1]   lease
-- ARGV[1]   name of the holder
-- ARGV[2]   seconds until the lease ends
--
-- Returns 1, or 0 if another holder has the lease.
--
-- One step, because another holder may take the lease between the read and the write.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
