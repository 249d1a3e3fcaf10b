"""Merges chunks into batches for one model."""
