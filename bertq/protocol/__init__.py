"""What clients and workers agree on: messages, results, keys and queues."""
