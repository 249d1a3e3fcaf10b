"""What a fork must not interrupt: a thread of the client that is inside Celery or kombu.

A fork copies one thread. A lock that another one holds at that moment stays locked in the child for
ever: the lock of a module that is just being imported, or one of kombu's, which belong to classes
and so are common to all connections. Hence a fork waits until the client's threads have left these
libraries, which is a matter of a millisecond, or of a second during the first import.
"""

# redis-py imports these when it first connects, on any thread: better now.
import email.parser  # noqa: F401
import encodings.idna  # noqa: F401
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds after which a fork goes on all the same: longer than any command to Redis may take.
_PATIENCE = 30.0

_change = threading.Condition()
_inside: set[int] = set()  # the threads that forks wait for
_forks = 0  # those that wait, or are under way


@contextmanager
def held_off() -> Iterator[None]:
    """Let forks wait until the block is left. Not to be nested."""
    me = threading.get_ident()
    with _change:
        # Whoever sends without pause would never let a fork pass.
        _change.wait_for(lambda: not _forks)
        _inside.add(me)
    try:
        yield
    finally:
        with _change:
            _inside.discard(me)
            _change.notify_all()


def _before() -> None:
    global _forks
    _change.acquire()  # until the fork is over
    _forks += 1
    _change.wait_for(lambda: _inside <= {threading.get_ident()}, _PATIENCE)


def _in_parent() -> None:
    global _forks
    _forks -= 1
    _change.notify_all()
    _change.release()


def _in_child() -> None:
    global _change, _inside, _forks
    _change, _inside, _forks = threading.Condition(), set(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
