"""The protocol between clients and workers: messages, results, keys and queues."""
