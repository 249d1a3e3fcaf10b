"""Measures the cost of a request of one sentence, beside stock Celery."""
