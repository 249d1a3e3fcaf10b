"""Background threads of a worker: heartbeat, registration, watchdog, durable-job monitor."""
