-- End a lease now or soon, if this holder has it.
--
-- KEYS[1]   lease
-- ARGV[1]   name of the holder
-- ARGV[2]   seconds until the lease ends; 0 ends it now
--
-- Returns nothing.
--
-- One step, because another holder may take the lease between the read and the write.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
