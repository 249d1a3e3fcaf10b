-- Write messages that a worker has taken to kombu's keys, and read the records of their jobs.
--
-- KEYS[1]   tags of messages by the time of their delivery
-- KEYS[2]   messages by their tags
-- KEYS[3..] records of the jobs of some of the messages
-- ARGV[1]   time of the delivery
-- ARGV[2]   seconds that the first two keys live
-- ARGV[3]   number of messages
-- ARGV[4..] tag and text of each message; then, for each record, the fields that count attempts at
--           the chunk and its redeliveries
--
-- Returns for each record the fields state, chunks, fingerprint and those two; nil if the key is no
-- record.
--
-- One step, because a message should cost few commands. If a write fails, all are repeated.

local fields = 4 + 2 * ARGV[3]
for place = 4, fields - 2, 2 do
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[place])
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
local records = {}
for number = 3, #KEYS do
  local place = fields + 2 * (number - 3)
  local found = redis.pcall(
    'HMGET', KEYS[number], 'state', 'chunks', 'fingerprint', ARGV[place], ARGV[place + 1])
  records[#records + 1] = not found.err and found
end
return records
