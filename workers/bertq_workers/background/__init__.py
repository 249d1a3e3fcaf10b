"""Threads that run beside the work: heartbeat, watchdog, durable-job monitor."""
