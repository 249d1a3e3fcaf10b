"""State that is kept in Redis: jobs, workers, queues and counters."""
