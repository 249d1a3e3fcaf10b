"""TLS, users of Redis with few rights, and secrets."""
