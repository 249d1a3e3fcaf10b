-- A function for the scripts that send chunks. It is not a script itself: scripts.load puts it in
-- front of theirs.
--
-- push puts a message on a queue, and lets the queue live at least some seconds longer.
--   queue    name of the queue
--   message  the message
--   seconds  minimum time to live of the queue
--
-- It reads no KEYS and no ARGV, and returns the number of messages that wait on the queue.
--
-- A list that was empty is new, and has no time to live.
--
-- In kombu 5.7, a queue is a list with the queue's name, and new messages are added at its left.
-- The version is pinned, and tests/client/test_message.py checks this.

local function push(queue, message, seconds)
  local waiting = redis.call('LPUSH', queue, message)
  if waiting == 1 or redis.call('TTL', queue) < tonumber(seconds) then
    redis.call('EXPIRE', queue, seconds)
  end
  return waiting
end
