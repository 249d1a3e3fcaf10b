"""Everything that relies on private parts of celery and kombu."""
