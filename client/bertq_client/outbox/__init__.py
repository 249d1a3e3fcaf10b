"""Sends requests: chunks, messages, and limits on chunks in flight."""
