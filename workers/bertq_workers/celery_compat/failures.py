"""Errors of chunks, as lines and in the form that Celery's callbacks take."""

import traceback
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError
from celery.utils.serialization import UnpickleableExceptionWrapper

_MAX_SUMMARY_CHARACTERS = 500


def type_name(error: BaseException) -> str:
    """Return the name of an error's class; of the original class if Celery has wrapped it."""
    if isinstance(error, UnpickleableExceptionWrapper):
        return str(error.exc_cls_name)
    return type(error).__name__


def summarize(error: BaseException) -> str:
    """Return an error's message as one line of limited length."""
    message = str(error)
    if isinstance(error, UnpickleableExceptionWrapper):
        message = ", ".join(map(str, error.exc_args or ()))
    line = " ".join(message.split())
    if len(line) <= _MAX_SUMMARY_CHARACTERS:
        return line
    return line[:_MAX_SUMMARY_CHARACTERS] + "..."


def format_frames(error: BaseException) -> str:
    """Return an error's traceback without its message, which may quote a user's text."""
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def describe_current() -> Any:
    """Describe the current exception, which was raised outside the task's body."""
    info: Any = ExceptionInfo()
    if issubclass(info.type, Exception) and not issubclass(info.type, MemoryError):
        return info
    # As Celery does after the death of a process: the chunk is returned to the queue.
    try:
        raise WorkerLostError(f"a thread of the pool ended with {info.type.__name__}")
    except WorkerLostError:
        return ExceptionInfo()


def break_cycles(answer: Any) -> None:
    """Break the reference cycles of an error from a task's body, once the body has ended.

    The error refers to its frames, and one of these to the error: some 5,000 objects for each chunk
    that was dropped or failed, which would stay in memory until Python's next garbage collection,
    minutes later. The error's text, and its traceback as text, are retained.

    Relies on private parts of celery 5.7 (the version is pinned, and tests/workers/test_failures.py
    checks it): a task's trace returns ``(failed, ExceptionInfo, runtime)``, and clears the frames
    of an error except those that are still running.

    Args:
        answer: the result of the trace.
    """
    if not (isinstance(answer, tuple) and len(answer) > 1 and isinstance(answer[1], ExceptionInfo)):
        return
    info: Any = answer[1]
    remaining, seen = [getattr(info.exception, "exc", info.exception)], set()
    while remaining:
        error = remaining.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            remaining += [error.__cause__, error.__context__]
