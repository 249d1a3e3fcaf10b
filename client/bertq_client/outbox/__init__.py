"""Sends requests: chunks, messages, and bounds on what is in flight."""
