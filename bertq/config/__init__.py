"""Settings of workers, and the configuration of the Celery app."""
