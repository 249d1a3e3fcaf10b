-- Remove the name of a worker whose info has expired.
--
-- KEYS[1]   names of the workers
-- KEYS[2]   info of the worker
-- ARGV[1]   name of the worker
--
-- Returns nothing.
--
-- One step, because the worker may have started again by now: its new info must keep its name.

if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
