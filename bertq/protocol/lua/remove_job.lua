-- Remove a durable job, committed or not, and its waiting messages. Runs with withdraw.lua.
--
-- KEYS[1]   record of the job
-- KEYS[2]   messages of the job
-- KEYS[3]   plan of its rows
-- KEYS[4]   stream of its notices
-- KEYS[5]   queue
-- KEYS[6]   durable jobs by the time at which they expire
-- ARGV[1]   id of the job
--
-- Returns nothing.
--
-- One step, because an answer between two commands would send further chunks.

withdraw(KEYS[1], KEYS[2], KEYS[5])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[6], ARGV[1])
