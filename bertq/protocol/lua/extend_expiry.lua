-- Let a key live at least some seconds longer.
--
-- KEYS[1]  the key; a missing one stays missing
-- ARGV[1]  minimum time to live, in seconds
--
-- Returns 1 if its time to live has changed, else 0.
-- One step, because an extension must not shorten a longer life. EXPIRE has options for this, but
-- not in Redis 6.

if redis.call('TTL', KEYS[1]) < tonumber(ARGV[1]) then
  return redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 0
