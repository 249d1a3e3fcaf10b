"""Lua scripts that change a durable job in one step.

A comment before each script lists its keys and arguments. ``bertq.state.durable_jobs`` runs them.

In kombu 5.7, a queue is a list with the queue's name, and new messages are added at its left (the
version is pinned, and tests/client/test_message.py checks this).
"""

#: Minimum number of chunks of a job that are sent and not answered. More are sent while fewer than
#: ``BACKLOG`` chunks, of any job, wait on the queue.
FLIGHT, BACKLOG = 4, 64

_FEED = f"""
local function feed(record, messages, queue)
  local found = redis.call('HMGET', record, 'state', 'next', 'chunks')
  if found[1] ~= 'active' then
    return
  end
  local next, chunks = tonumber(found[2]), tonumber(found[3])
  local flight = next - (chunks - redis.call('HLEN', messages))
  local waiting = redis.call('LLEN', queue)
  while next < chunks and (flight < {FLIGHT} or waiting < {BACKLOG}) do
    local message = redis.call('HGET', messages, next)
    if message then
      waiting = redis.call('LPUSH', queue, message)
      flight = flight + 1
    end
    next = next + 1
  end
  redis.call('HSET', record, 'next', next)
end
"""

# KEYS: record, messages, plan, queue, jobs. ARGV: the job's time to live in seconds, then the
# record's fields. Does nothing when it is repeated after a lost connection, or when the messages
# are missing.
COMMIT = f"""{_FEED}
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
local fields = {{}}
for index = 2, #ARGV, 2 do
  fields[ARGV[index]] = ARGV[index + 1]
end
local there = redis.call('HLEN', KEYS[2])
if there ~= tonumber(fields.chunks) or redis.call('EXISTS', KEYS[3]) == 0 then
  return 0
end
local now = redis.call('TIME')
for name, value in pairs(fields) do
  redis.call('HSET', KEYS[1], name, value)
end
redis.call('HSET', KEYS[1], 'created', now[1] .. '.' .. string.format('%06d', now[2]))
for index = 1, 3 do
  redis.call('EXPIRE', KEYS[index], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now[1])
redis.call('ZADD', KEYS[5], now[1] + ARGV[1], fields.id)
if redis.call('TTL', KEYS[5]) < tonumber(ARGV[1]) then
  redis.call('EXPIRE', KEYS[5], ARGV[1])
end
feed(KEYS[1], KEYS[2], KEYS[4])
return 1
"""

# KEYS: record, messages, result, stream, queue. ARGV: chunk, task id, bytes, whether it failed. The
# same transaction has just written the result, with a short time to live.
FINISH = f"""{_FEED}
local state, chunks = unpack(redis.call('HMGET', KEYS[1], 'state', 'chunks'))
if not state or state == 'cancelled' then
  redis.call('UNLINK', KEYS[3])
  return 0
end
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[3], left)
local size = redis.call('HSTRLEN', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local places = 'places:' .. ARGV[1]
local rows = redis.call('HGET', KEYS[1], places) or 0
redis.call('HDEL', KEYS[1], places)
redis.call('HINCRBY', KEYS[1], 'bytes', ARGV[3] - size)
redis.call('HINCRBY', KEYS[1], ARGV[4] == '1' and 'failed' or 'done', rows)
redis.call('XADD', KEYS[4], '*', 'task', ARGV[2])
redis.call('PEXPIRE', KEYS[4], left)
if redis.call('EXISTS', KEYS[2]) == 0 then
  local failed = redis.call('HGET', KEYS[1], 'failed')
  redis.call('HSET', KEYS[1], 'state', failed and 'failed' or 'done')
else
  feed(KEYS[1], KEYS[2], KEYS[5])
end
return 1
"""

# KEYS: record, messages, queue.
TEND = f"{_FEED}\nfeed(KEYS[1], KEYS[2], KEYS[3])"

# KEYS: messages, queue. ARGV: chunk.
SEND_AGAIN = """
local message = redis.call('HGET', KEYS[1], ARGV[1])
if message then
  redis.call('LPUSH', KEYS[2], message)
  return 1
end
return 0
"""

# KEYS: record, messages, plan, stream. ARGV: seconds that the record remains.
CANCEL = """
if redis.call('HGET', KEYS[1], 'state') ~= 'active' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'bytes', 0)
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
if redis.call('TTL', KEYS[1]) > tonumber(ARGV[1]) then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 1
"""
