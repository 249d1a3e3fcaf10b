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

from bertq.state import jobs
from bertq_workers import tasks


class Looked:
    """Notes how often a job's record was looked at."""

    def __init__(self, *active: bool) -> None:
        self.active = list(active)

    def __call__(self, *_: Any) -> jobs.JobRecord:
        return jobs.JobRecord(active=self.active.pop(0), chunks=1, fingerprint=None)


def test_a_chunk_that_waits_long_is_dropped_once_its_job_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look = Looked(True, True, False)
    monkeypatch.setattr(tasks, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(tasks, "_look", look)
    waiting: Future[Any] = Future()
    task: Any = None
    with pytest.raises(Ignore):
        tasks._wait(task, "a-0", waiting)
    assert waiting.cancelled()
    assert look.active == []


def test_a_chunk_that_is_computed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(tasks, "_look", Looked(*[False] * 10_000))
    task: Any = None
    for end in ("rows", TimeoutError("the device's own")):
        running: Future[Any] = Future()
        running.set_running_or_notify_cancel()
        finish = running.set_result if isinstance(end, str) else running.set_exception
        timer = threading.Timer(0.1, finish, [end])
        timer.start()
        if isinstance(end, str):
            assert tasks._wait(task, "a-0", running) == "rows"
        else:
            with pytest.raises(TimeoutError, match="the device's own"):
                tasks._wait(task, "a-0", running)
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
def test_trouble_with_redis_is_a_line_and_no_traceback(
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
