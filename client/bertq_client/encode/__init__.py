"""Requests: lists of texts, whose vectors the caller waits for or fetches later."""
