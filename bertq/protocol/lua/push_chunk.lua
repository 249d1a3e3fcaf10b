-- Put a chunk on a queue. Runs with push.lua.
--
-- KEYS[1]   queue
-- ARGV[1]   message of the chunk
-- ARGV[2]   seconds that the queue lives at least
--
-- Returns the number of messages that wait on the queue.
--
-- One step, because a client that ends between two commands would leave a queue that never expires.

return push(KEYS[1], ARGV[1], ARGV[2])
