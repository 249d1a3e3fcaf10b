"""Celery workers: the encode task, start-up, batching, background threads and metrics."""
