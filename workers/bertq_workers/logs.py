"""What a worker's log shows: one line a chunk, and never a user's text or a vector."""

import logging

from redis import RedisError

from bertq.backend import summarize


def quiet_celery() -> None:
    """Leave the lines about each chunk to ``bertq.worker``.

    Celery would print a line at the receipt and one at the end, with the repr of the result, and
    for a failure the whole traceback, whose last line may quote values.
    """
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # CRITICAL stays: it is how the tracer reports errors of its own.
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
    for name in ("celery.worker.consumer.consumer", "celery.worker.worker"):
        logging.getLogger(name).addFilter(_without_traceback)
    # At each reconnect it explains a default that will change, and that bertq sets. Celery sets
    # the filters of warnings itself, so that this is the place left.
    logging.getLogger("py.warnings").addFilter(
        lambda record: "In Celery 5.1 we introduced" not in record.getMessage()
    )


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say what Redis did in a line: where in Celery it was noticed helps nobody."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RedisError | OSError):
        record.msg = f"{record.getMessage().rstrip()} ({type(error).__name__}: {summarize(error)})"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True
