-- End a lease, if this holder has it.
--
-- KEYS[1]   lease
-- ARGV[1]   name of the holder
--
-- Returns nothing.
--
-- One step, because another holder may take the lease between the read and the write.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('UNLINK', KEYS[1])
end
