"""The Celery side: the task, what a worker does at its start, devices, adverts."""
