"""Starts and supervises the processes of a service."""
