-- Cancel an active durable job, and remove its texts, notices and waiting messages. Runs with
-- withdraw.lua.
--
-- KEYS[1]   record of the job
-- KEYS[2]   messages of the job
-- KEYS[3]   plan of its rows
-- KEYS[4]   stream of its notices
-- KEYS[5]   queue
-- ARGV[1]   maximum seconds that the record remains
--
-- Returns 1, or 0 if the job is not active.
--
-- One step, because the last answer may finish the job between the read and the write.

if redis.call('HGET', KEYS[1], 'state') ~= 'active' then
  return 0
end
withdraw(KEYS[1], KEYS[2], KEYS[5])
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'bytes', 0)
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
if redis.call('TTL', KEYS[1]) > tonumber(ARGV[1]) then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 1
