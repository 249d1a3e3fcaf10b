"""TLS, users of Redis with few rights, secrets that are kept."""
