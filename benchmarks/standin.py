"""A worker whose model is a clock: rows of any size after a set time, without TensorFlow.

Usage: ``python -m benchmarks.standin [OPTIONS] worker [OPTIONS OF celery worker]``, started where
the project is. It shows what the queue can carry, for devices that this machine does not have:

    python -m benchmarks.standin --batch-ms 25 --dim 768 worker -Q cpu0

The worker is the real one, but for the two functions that load a model. With ``--model-dir`` (or
``BERTQ_MODEL_DIR``) sentences are tokenized as that model does; without, a word is a token.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertq.config.settings import Settings
from bertq.protocol.queues import Device
from bertq_bert.batches import Budget
from bertq_bert.checkpoint import Array
from bertq_bert.model import Model
from bertq_bert.tokenizing.sequences import Tokenized
from bertq_workers.startup import loading

#: Rows that ``--batch-ms`` is the time of.
ROWS = 256


class Words:
    """A tokenizer that knows two tokens: a word, and what surrounds a sentence."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """What the numbers stand for."""
        return [str(number) for number in ids]

    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Ids of each text, cut to ``length``."""
        return [[0, *[1] * (text.count(" ") + 1), 0][:length] for text in texts]


@dataclass(frozen=True, eq=False)
class Clock(Model):
    """What stands where the encoder would be."""

    #: batches at once
    lanes: int = 1
    #: seconds that a row, and a batch of any size, take
    row_seconds: float = 0.0
    batch_seconds: float = 0.0

    def tokenize(
        self,
        texts: Sequence[Any],
        *,
        is_tokenized: bool = False,
        truncate: str = "right",
        pairs: bool | None = None,
        prompt: str | None = None,
    ) -> Tokenized:
        """Tokenize as the model does or, without one, by words."""
        if not isinstance(self.tokenizer, Words):
            return super().tokenize(
                texts, is_tokenized=is_tokenized, truncate=truncate, pairs=pairs, prompt=prompt
            )
        words = [text if isinstance(text, str) else " ".join(text) for text in texts]
        return Tokenized(self.tokenizer.encode(words, self.max_seq_len), [])

    @property
    def budget(self) -> Budget:
        """Bounds rows alone: tokens cost nothing."""
        return Budget(self.max_batch_size, 2**40, 2**60)

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Accept everything."""

    def blank(self, lengths: Sequence[int]) -> Array:
        """Zeros for so many rows."""
        return np.zeros((len(lengths), *map(int, filter(None, self.row_shape))), np.float32)

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Wait as the device would; the first number of a row is the tokens of its sentence."""
        seconds = self.batch_seconds + len(ids) * self.row_seconds
        if seconds:
            time.sleep(seconds)  # without the interpreter's lock, as a device computes
        rows = self.blank([0] * len(ids))
        rows[:, 0] = np.fromiter(map(len, ids), np.float32, len(ids))
        return rows


@dataclass(frozen=True)
class Loaded:
    """What is left of a ``Source``."""

    model: Model


def read(settings: Settings, device: Device | None, dim: int) -> Loaded:
    """Stand in for ``loading.read``."""
    if settings.model_dir is not None:
        model = _read(settings, device).model
        return Loaded(replace(model, row_shape=(dim,)))
    words: Any = Words()
    model = Model(
        name="clock", fingerprint=f"clock-{dim}", max_seq_len=_length(settings),
        max_batch_size=settings.max_batch_size, pooling_strategy="REDUCE_MEAN",
        pooling_layers=(-1,), dtype="float32", row_shape=(dim,), vocab_size=2, tokenizer=words,
        segments=2, no_special_token=False,
    )  # fmt: skip
    return Loaded(model)


def _length(settings: Settings) -> int:
    return settings.max_seq_len if isinstance(settings.max_seq_len, int) else 512


_read = loading.read


def main() -> None:
    """Read the options, put the stand-ins in place, and become ``celery -A bertq``."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--batch-ms", type=float, default=25.0, help=f"time of {ROWS} rows")
    parser.add_argument("--base-ms", type=float, default=0.0, help="time of a batch beside that")
    parser.add_argument("--dim", type=int, default=768, help="numbers in a row")
    options, rest = parser.parse_known_args()

    def build(source: Loaded, _: Any, __: Any, concurrency: int) -> tuple[Clock, str]:
        row, batch = options.batch_ms / 1000 / ROWS, options.base_ms / 1000
        model = vars(source.model)
        return Clock(**model, lanes=concurrency, row_seconds=row, batch_seconds=batch), "clock"

    replaced: Any = loading
    replaced.read = lambda settings, device: read(settings, device, options.dim)
    replaced.build = build
    from celery.bin.celery import main as celery

    sys.argv = ["celery", "-A", "bertq", *rest]
    sys.exit(celery())


if __name__ == "__main__":
    main()
