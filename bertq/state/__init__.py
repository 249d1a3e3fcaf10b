"""State in Redis: jobs, workers, queues and counters."""
