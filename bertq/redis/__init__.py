"""Connections to Redis: address, TLS and outages."""
