"""The task's own checks, and the log lines that Celery must not write."""

import inspect
import logging
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from celery.app import trace
from celery.exceptions import Ignore
from celery.worker import strategy, worker
from celery.worker.consumer import consumer

import bertq_workers.tasks  # noqa: F401  # it quiets Celery
from bertq_workers.batching.chunk import wait_for_rows


def test_a_chunk_that_waits_long_is_dropped_once_its_job_is_over() -> None:
    waiting: Future[Any] = Future()
    answers = iter([True, True, False])
    with pytest.raises(Ignore):
        wait_for_rows(waiting, answers.__next__, 0.01)
    assert waiting.cancelled()
    assert list(answers) == []


def test_stopping_waits_for_a_chunk_in_the_graph() -> None:
    for end in ("rows", TimeoutError("the device's own")):
        running: Future[Any] = Future()
        running.set_running_or_notify_cancel()
        finish = running.set_result if isinstance(end, str) else running.set_exception
        timer = threading.Timer(0.1, finish, [end])
        timer.start()
        if isinstance(end, str):
            assert wait_for_rows(running, lambda: False, 0.01) == "rows"
        else:
            with pytest.raises(TimeoutError, match="the device's own"):
                wait_for_rows(running, lambda: False, 0.01)
        timer.join()


def test_celery_leaves_the_chunks_lines_to_us() -> None:
    assert not logging.getLogger("celery.worker.strategy").isEnabledFor(logging.INFO)
    assert not logging.getLogger("celery.app.trace").isEnabledFor(logging.ERROR)
    assert logging.getLogger("celery.app.trace").isEnabledFor(logging.CRITICAL)


def test_celery_still_logs_under_the_names_that_are_known() -> None:
    modules: list[Any] = [strategy, trace, consumer, worker]
    assert [module.logger.name for module in modules] == [
        "celery.worker.strategy", "celery.app.trace", "celery.worker.consumer.consumer",
        "celery.worker",
    ]  # fmt: skip
    assert "Unrecoverable error" in inspect.getsource(worker)
    assert "\nIn Celery 5.1 we introduced" in inspect.getsource(consumer)


@pytest.mark.parametrize("name", ["celery.worker.consumer.consumer", "celery.worker"])
def test_an_error_of_redis_is_one_line_without_a_traceback(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    consumer = logging.getLogger(name)
    caplog.set_level(logging.WARNING, name)
    for error in (ConnectionError("gone"), ZeroDivisionError("our own mistake")):
        try:
            raise error
        except Exception:
            consumer.warning("lost %s\n", "it", exc_info=True)
    lost, mistake = caplog.records
    assert (lost.getMessage(), lost.exc_info) == ("lost it (ConnectionError: gone)", None)
    assert mistake.exc_info is not None
