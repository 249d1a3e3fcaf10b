"""Many clients on one Redis: connections, keys, memory and latency."""
