"""A stand-in worker with short timeouts that some sentences kill, hang or fail."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import standin
from bertq.config import celery_config
from bertq_bert.checkpoint import Array
from tests.chaos import quick

#: Words that make the graph fail, and the tokens that they become.
KILL, HANG, FAIL, SHORT = "!kill", "!hang", "!fail", "!short"
WORDS = {KILL: 2, HANG: 3, FAIL: 4, SHORT: 5}

#: Largest batch, in rows, that fits into memory if one of the rows is ``SHORT``.
MAX_SHORT_ROWS = 8

_encode, _run = standin.WordTokenizer.encode, standin.SimulatedModel.run


def encode(self: standin.WordTokenizer, texts: Sequence[str], length: int) -> list[list[int]]:
    rows = _encode(self, texts, length)
    for row, text in zip(rows, texts, strict=True):
        row[0] = next((token for word, token in WORDS.items() if word in text), 0)
    return rows


def run(self: standin.SimulatedModel, ids: Sequence[Sequence[int]]) -> Array:
    tokens = {row[0] for row in ids}
    rows = _run(self, ids)
    if WORDS[KILL] in tokens:
        os.kill(os.getpid(), signal.SIGKILL)
    if WORDS[HANG] in tokens:
        time.sleep(600)
    if WORDS[FAIL] in tokens:
        raise ArithmeticError("the graph fails")
    if WORDS[SHORT] in tokens and len(ids) > MAX_SHORT_ROWS:
        raise MemoryError
    return rows


if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT_SECONDS = quick.TIMEOUT
    replaced = standin
    replaced.WordTokenizer.encode = encode
    replaced.SimulatedModel.run = run
    standin.main()
