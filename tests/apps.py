"""Celery apps of tests, separate from the app of the product."""

from celery import Celery

from bertq.config.celery_config import configuration


def create_app(redis_url: str) -> Celery:
    """Return an app with the product's configuration that is not the process's current one."""
    app = Celery("bertq", set_as_current=False)
    app.config_from_object(configuration(redis_url))
    return app
