"""Errors of chunks, as Celery passes them from the thread of a chunk to the hub's."""

from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError


def outside() -> Any:
    """Describe the error that is being handled; it came from outside of the task's body."""
    info: Any = ExceptionInfo()
    if issubclass(info.type, Exception) and not issubclass(info.type, MemoryError):
        return info
    # As Celery does with a process that died: the chunk goes back to the queue.
    try:
        raise WorkerLostError(f"a thread of the pool ended with {info.type.__name__}")
    except WorkerLostError:
        return ExceptionInfo()


def untie(answer: Any) -> None:
    """Let go of what an error of a task's body holds, once the body has ended.

    The error holds its frames, one of these the error: some 5,000 objects for each chunk that was
    dropped or failed, which would stay until Python next looks for cycles, minutes later. What is
    told of the error, its text and its traceback as text, stays.

    Relies on the inside of celery 5.7 (the version is pinned, and tests/workers/test_failures.py
    looks at it): a task's trace returns ``(failed, ExceptionInfo, runtime)``, and clears the frames
    of an error but not those that are still running.

    Args:
        answer: what the trace returned.
    """
    if not (isinstance(answer, tuple) and len(answer) > 1 and isinstance(answer[1], ExceptionInfo)):
        return
    info: Any = answer[1]
    waiting, seen = [getattr(info.exception, "exc", info.exception)], set()
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            waiting += [error.__cause__, error.__context__]
