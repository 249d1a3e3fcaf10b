"""What the queue can carry, for devices that this machine does not have."""
