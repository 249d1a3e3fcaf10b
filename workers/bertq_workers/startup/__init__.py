"""Starts a worker: device, model, claim on its queues."""
