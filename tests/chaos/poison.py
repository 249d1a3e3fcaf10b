"""A quick clock worker that some sentences end, hang or fail."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import standin
from bertq.config import celery_config
from bertq_bert.checkpoint import Array
from tests.chaos import quick

#: Words by the token that they become, which the graph cannot bear.
KILL, HANG, FAIL, SHORT = "!kill", "!hang", "!fail", "!short"
WORDS = {KILL: 2, HANG: 3, FAIL: 4, SHORT: 5}

#: Rows that there is memory for where one is ``SHORT``.
ROOM = 8

_encode, _run = standin.Words.encode, standin.Clock.run


def encode(self: standin.Words, texts: Sequence[str], length: int) -> list[list[int]]:
    rows = _encode(self, texts, length)
    for row, text in zip(rows, texts, strict=True):
        row[0] = next((token for word, token in WORDS.items() if word in text), 0)
    return rows


def run(self: standin.Clock, ids: Sequence[Sequence[int]]) -> Array:
    tokens = {row[0] for row in ids}
    rows = _run(self, ids)
    if WORDS[KILL] in tokens:
        os.kill(os.getpid(), signal.SIGKILL)
    if WORDS[HANG] in tokens:
        time.sleep(600)
    if WORDS[FAIL] in tokens:
        raise ArithmeticError("the graph cannot bear it")
    if WORDS[SHORT] in tokens and len(ids) > ROOM:
        raise MemoryError
    return rows


if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT = quick.TIMEOUT
    replaced = standin
    replaced.Words.encode = encode
    replaced.Clock.run = run
    standin.main()
