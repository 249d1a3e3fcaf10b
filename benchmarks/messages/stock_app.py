"""Stock Celery with a task that does nothing: it returns as many bytes as a row, as base64."""

import os

from celery import Celery

#: A row of 768 numbers in float32, as base64.
_ROW = "A" * 4096

_url = os.environ["STOCK_CELERY_URL"]
app = Celery("stock", broker=_url, backend=_url)
app.conf.broker_connection_retry_on_startup = True


@app.task
def encode(texts: list[str]) -> str:
    """Return a row."""
    return _ROW
