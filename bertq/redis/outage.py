"""Outages of a reachable Redis: it is full, cannot write to its disk, or is a replica.

Such an outage ends on its own, or an operator ends it. Callers wait for this and log one line.
"""

import logging
import re
import threading

from redis import ResponseError
from redis.exceptions import OutOfMemoryError, ReadOnlyError

#: Error codes without a class in redis-py: a failing disk, and missing replicas.
_CODES = ("MISCONF", "NOREPLICAS")

#: In the error of a pipeline, redis-py quotes the start of the command, then this text, then the
#: server's message.
_QUOTED = "caused error: "


def code(error: BaseException) -> str:
    """Return the name of an error for a log, without the command, which may hold a user's text."""
    if type(error) is not ResponseError:
        return type(error).__name__
    word = said(error).split(" ", 1)[0]
    return word if re.fullmatch("[A-Z]{2,20}", word) else "ResponseError"


def said(error: ResponseError) -> str:
    """Return the server's message, without the command that redis-py quotes."""
    return str(error).rpartition(_QUOTED)[2]


def refuses_writes(error: BaseException) -> bool:
    """Return whether Redis currently takes no writes at all."""
    return isinstance(error, OutOfMemoryError | ReadOnlyError) or code(error) in _CODES


class OutageLog:
    """A log of one kind of outage: a line at its start and a line at its end; thread-safe."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """Create the log; ``what`` is the effect of the outage, as in "no chunks can be taken"."""
        self._what = what
        self._log = log
        self._who: set[object] = set()
        self._lock = threading.Lock()
        self._silent = False

    def refused(self, error: BaseException, who: object = None) -> None:
        """Note that Redis has refused a command; ``who`` is one of possibly several callers."""
        with self._lock:
            news = not self._who
            self._who.add(who)
            if news:
                self._silent = not isinstance(error, ResponseError)
        if news:
            does = "does not answer" if self._silent else "refuses"
            self._log.warning("Redis %s (%s): %s", does, code(error), self._what)

    def works(self, who: object = None) -> None:
        """Note that a command worked; the outage ends when it works for every refused caller."""
        if who not in self._who:
            return
        with self._lock:
            self._who.discard(who)
            news = not self._who
        if news:
            does = "answers again" if self._silent else "refuses it no more"
            self._log.info("Redis %s, it is over: %s", does, self._what)
