-- Send as many chunks of a durable job as the limits allow. Runs with push.lua and feed.lua.
--
-- KEYS[1]   record of the job
-- KEYS[2]   messages of the job
-- KEYS[3]   queue
-- ARGV[1]   min_flight of feed
-- ARGV[2]   max_waiting of feed
-- ARGV[3]   queue_ttl of feed
--
-- Returns nothing.
--
-- One step, because answers of the job's chunks also send further chunks, and none may be sent
-- twice.

feed(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3])
