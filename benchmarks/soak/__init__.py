"""Clients of all kinds for a long while, while workers are killed and Redis is restarted."""
