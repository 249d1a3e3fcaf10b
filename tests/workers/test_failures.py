"""An error of a chunk releases its memory together with the chunk."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore

from bertq_workers.celery_compat import failures


class Sentences(list[str]):
    """A list that can be watched."""


@pytest.fixture
def watched() -> Iterator[Any]:
    """Run a task that raises, as a worker does; return its answer and an object of its frames."""
    app = Celery("failing", set_as_current=False, backend="cache+memory://")
    left: list[weakref.ref[Any]] = []

    def run(error: Exception) -> Any:
        @app.task(name="failing.task", shared=False)
        def task(texts: Any) -> None:
            try:
                raise KeyError("the reason")
            except KeyError:
                raise error  # noqa: B904 - the reason must go too

        def outer() -> Any:
            # As in celery's fast_trace_task: a frame outside of the trace keeps its answer.
            mine = Sentences(["a"])
            left.append(weakref.ref(mine))
            answer = tracer("an-id", [mine], {}, {"id": "an-id", "args": [mine]})
            result, info, runtime, _ = answer
            return (1, result, runtime) if info else (0, result, runtime)

        app.finalize()
        tracer: Any = build_tracer("failing.task", app.tasks["failing.task"], app=app)
        return outer(), left[-1]

    gc.collect()
    gc.disable()
    yield run
    gc.enable()
    app.close()


@pytest.mark.parametrize("error", [Ignore(), ValueError("no")], ids=["ignored", "failed"])
def test_an_error_releases_its_memory_at_once(watched: Any, error: Exception) -> None:
    answer, held = watched(error)
    assert held() is not None  # or Celery has found another way, and ours is not needed
    traceback = answer[1].traceback
    failures.break_cycles(answer)
    assert type(error).__name__ in traceback
    assert answer[1].traceback == traceback
    del answer, traceback, error
    assert held() is None


@pytest.mark.parametrize("answer", [None, (), (0, "rows", 0.1), (1, "an error's text", 0.1)])
def test_other_objects_are_not_changed(answer: Any) -> None:
    failures.break_cycles(answer)


def test_an_error_that_is_its_own_reason(watched: Any) -> None:
    error = ValueError("no")
    reason = KeyError("why")
    reason.__context__ = error
    error.__cause__ = reason
    answer, _ = watched(error)
    failures.break_cycles(answer)
    assert error.__traceback__ is reason.__traceback__ is None
