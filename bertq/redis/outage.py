"""Outages of a reachable Redis: it is full, cannot write to its disk, or is a replica.

Such an outage ends on its own, or an operator ends it. Callers wait for this and log one line.
"""

import logging
import re
import threading

from redis import ResponseError
from redis.exceptions import OutOfMemoryError

from bertq.redis.primary import ReadOnlyServer

#: Error codes without a class in redis-py: a failing disk, and missing replicas.
_CODES = ("MISCONF", "NOREPLICAS")

#: In the error of a pipeline, redis-py quotes the start of the command, then this text, then the
#: server's message.
_QUOTED = "caused error: "


def code(error: BaseException) -> str:
    """Return the name of an error for a log, without the command, which may hold a user's text."""
    if isinstance(error, ReadOnlyServer):
        return error.code
    if type(error) is not ResponseError:
        return type(error).__name__
    first_word = server_message(error).split(" ", 1)[0]
    return first_word if re.fullmatch("[A-Z]{2,20}", first_word) else "ResponseError"


def server_message(error: ResponseError) -> str:
    """Return the server's message, without the command that redis-py quotes."""
    return str(error).rpartition(_QUOTED)[2]


def refuses_writes(error: BaseException) -> bool:
    """Return whether Redis currently takes no writes at all."""
    return isinstance(error, OutOfMemoryError | ReadOnlyServer) or code(error) in _CODES


class OutageLog:
    """A log of one kind of outage: a line at its start and a line at its end; thread-safe.

    Args:
        log: the logger.
        effect: the effect of the outage, as in "no chunks can be taken".
    """

    def __init__(self, log: logging.Logger, effect: str) -> None:
        self._log = log
        self._effect = effect
        self._failing: set[object] = set()
        self._lock = threading.Lock()
        self._is_refused = False

    def failed(self, error: BaseException, caller: object = None) -> None:
        """Note that a command of ``caller``, one of possibly several, has failed."""
        with self._lock:
            is_new = not self._failing
            self._failing.add(caller)
            if is_new:
                self._is_refused = isinstance(error, ResponseError | ReadOnlyServer)
        if is_new:
            verb = "refuses" if self._is_refused else "does not answer"
            self._log.warning("Redis %s (%s): %s", verb, code(error), self._effect)

    def succeeded(self, caller: object = None) -> None:
        """Note that a command succeeded; the outage ends when it has for every failing caller."""
        if caller not in self._failing:
            return
        with self._lock:
            self._failing.discard(caller)
            is_over = not self._failing
        if is_over:
            state = "no longer refuses" if self._is_refused else "answers again"
            self._log.info("Redis %s, the outage is over (was: %s)", state, self._effect)
