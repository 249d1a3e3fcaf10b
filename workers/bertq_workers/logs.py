"""What a worker's log shows: one line a chunk, and never a user's text or a vector."""

import logging


def quiet_celery() -> None:
    """Leave the lines about each chunk to ``bertq.worker``.

    Celery would print a line at the receipt and one at the end, with the repr of the result, and
    for a failure the whole traceback, whose last line may quote values.
    """
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # CRITICAL stays: it is how the tracer reports errors of its own.
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
