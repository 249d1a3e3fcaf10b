"""What Redis refuses though it is in reach: it is full, cannot write to its disk, or is a replica.

Such trouble ends by itself or by an operator's hand: it is waited for, and said in one line.
"""

import logging
import re
import threading

from redis import ResponseError
from redis.exceptions import OutOfMemoryError, ReadOnlyError

#: Codes of replies for which redis-py has no class: the disk, and replicas that must be there.
_CODES = ("MISCONF", "NOREPLICAS")

#: redis-py puts this between a command of a pipeline, of which it quotes the beginning, and the
#: server's own words.
_QUOTED = "caused error: "


def code(error: BaseException) -> str:
    """Return what a log may show of an error: never what was sent, which may be a user's text."""
    if type(error) is not ResponseError:
        return type(error).__name__
    word = said(error).split(" ", 1)[0]
    return word if re.fullmatch("[A-Z]{2,20}", word) else "ResponseError"


def said(error: ResponseError) -> str:
    """Return the server's own words, without the command that they are the answer to."""
    return str(error).rpartition(_QUOTED)[2]


def refuses_writes(error: BaseException) -> bool:
    """Return whether Redis takes no writes at all for now, this one or any other."""
    return isinstance(error, OutOfMemoryError | ReadOnlyError) or code(error) in _CODES


class OutageLog:
    """A trouble that is told once, and once more when it is over; may be used on any thread."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """``what`` says what is not done meanwhile."""
        self._what = what
        self._log = log
        self._who: set[object] = set()
        self._lock = threading.Lock()
        self._silent = False

    def refused(self, error: BaseException, who: object = None) -> None:
        """Note that Redis has refused it, to one of several that may ask."""
        with self._lock:
            news = not self._who
            self._who.add(who)
            if news:
                self._silent = not isinstance(error, ResponseError)
        if news:
            does = "does not answer" if self._silent else "refuses"
            self._log.warning("Redis %s (%s): %s", does, code(error), self._what)

    def works(self, who: object = None) -> None:
        """Note that it has not refused it; the trouble is over when no one is left."""
        if who not in self._who:
            return
        with self._lock:
            self._who.discard(who)
            news = not self._who
        if news:
            does = "answers again" if self._silent else "refuses it no more"
            self._log.info("Redis %s, it is over: %s", does, self._what)
