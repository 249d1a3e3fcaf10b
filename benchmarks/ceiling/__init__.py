"""Measures the throughput of the queue with simulated devices of any speed."""
