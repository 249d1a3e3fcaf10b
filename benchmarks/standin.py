"""A worker with a simulated model: rows of any size after a set time, without TensorFlow.

Usage: ``python -m benchmarks.standin [OPTIONS] worker [OPTIONS OF celery worker]``, started where
the project is. It shows the throughput of the queue with devices that this machine does not have:

    python -m benchmarks.standin --batch-ms 25 --dim 768 worker -Q gpu0

The worker is the real one, but for the two functions that load a model. On a queue ``gpu<N>``, the
device gets a batch while it computes another one, as a GPU does. With ``--model-dir`` (or
``BERTQ_MODEL_DIR``) sentences are tokenized as that model does; without, a word is a token.
"""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bertq.config.settings import Settings
from bertq.protocol.queues import Device
from bertq_bert.batches import Budget
from bertq_bert.checkpoint import Array
from bertq_bert.model import Model
from bertq_bert.tokenizing.sequences import Tokenized
from bertq_workers.startup import loading
from bertq_workers.startup.hardware import Hardware

#: Number of rows to which ``--batch-ms`` applies.
_TIMED_ROWS = 256


class WordTokenizer:
    """A tokenizer with two tokens: a word, and a special token around each sentence."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the ids as text."""
        return [str(number) for number in ids]

    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Return the ids of each text, at most ``length``."""
        return [[0, *[1] * (text.count(" ") + 1), 0][:length] for text in texts]


class SimulatedDevice:
    """A device that computes some batches at once, and others after them, as a GPU does.

    Attributes:
        row_seconds, batch_seconds: time that a row, and a batch of any size, take.
    """

    def __init__(self, lanes: int, row_seconds: float, batch_seconds: float) -> None:
        self.row_seconds = row_seconds
        self.batch_seconds = batch_seconds
        self._lock = threading.Lock()
        self._free_at = [0.0] * lanes  # on the monotonic clock

    def compute(self, rows: int) -> None:
        """Wait until a batch is computed: without the interpreter's lock, as a device computes."""
        seconds = self.batch_seconds + rows * self.row_seconds
        if not seconds:
            return
        with self._lock:
            lane = min(range(len(self._free_at)), key=self._free_at.__getitem__)
            end = max(self._free_at[lane], time.monotonic()) + seconds
            self._free_at[lane] = end
        time.sleep(max(0.0, end - time.monotonic()))


@dataclass(frozen=True, eq=False)
class SimulatedModel(Model):
    """A model that waits instead of computing."""

    #: batches at once
    lanes: int = 1
    device: SimulatedDevice = field(default_factory=lambda: SimulatedDevice(1, 0.0, 0.0))

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
        if not isinstance(self.tokenizer, WordTokenizer):
            return super().tokenize(
                texts, is_tokenized=is_tokenized, truncate=truncate, pairs=pairs, prompt=prompt
            )
        words = [text if isinstance(text, str) else " ".join(text) for text in texts]
        return Tokenized(self.tokenizer.encode(words, self.max_seq_len), [])

    @property
    def budget(self) -> Budget:
        """Bounds on rows only: tokens cost nothing."""
        return Budget(self.max_batch_size, 2**40, 2**60)

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Accept everything."""

    def blank(self, lengths: Sequence[int]) -> Array:
        """Return zeros for the rows."""
        return np.zeros((len(lengths), *map(int, filter(None, self.row_shape))), np.float32)

    def run(self, ids: Sequence[Sequence[int]]) -> Array:
        """Wait as long as the device; the first number of a row is its number of tokens."""
        self.device.compute(len(ids))
        rows = self.blank([0] * len(ids))
        rows[:, 0] = np.fromiter(map(len, ids), np.float32, len(ids))
        return rows


@dataclass(frozen=True)
class SimulatedSource:
    """The part of a ``Source`` that workers read."""

    model: Model


def read_simulated(settings: Settings, device: Device | None, dim: int) -> SimulatedSource:
    """Replace ``loading.read``."""
    if settings.model_dir is not None:
        model = _read_model(settings, device).model
        return SimulatedSource(replace(model, row_shape=(dim,)))
    words: Any = WordTokenizer()
    model = Model(
        name="clock", fingerprint=f"clock-{dim}", max_seq_len=_max_seq_len(settings),
        max_batch_size=settings.max_batch_size, pooling_strategy="REDUCE_MEAN",
        pooling_layers=(-1,), dtype="float32", row_shape=(dim,), vocab_size=2, tokenizer=words,
        segments=2, no_special_token=False,
    )  # fmt: skip
    return SimulatedSource(model)


def _max_seq_len(settings: Settings) -> int:
    return settings.max_seq_len if isinstance(settings.max_seq_len, int) else 512


_read_model = loading.read


def main() -> None:
    """Read the options, replace the model, and run ``celery -A bertq``."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--batch-ms", type=float, default=25.0, help=f"time of {_TIMED_ROWS} rows")
    parser.add_argument("--base-ms", type=float, default=0.0, help="additional time of each batch")
    parser.add_argument("--dim", type=int, default=768, help="numbers in a row")
    options, rest = parser.parse_known_args()

    def build(
        source: SimulatedSource, _: Any, device: Device | None, concurrency: int
    ) -> tuple[SimulatedModel, Hardware]:
        model = SimulatedModel(
            **vars(source.model),
            lanes=concurrency,
            device=SimulatedDevice(
                concurrency, options.batch_ms / 1000 / _TIMED_ROWS, options.base_ms / 1000
            ),
        )
        is_gpu = device is not None and device.kind == "gpu"
        return model, Hardware("clock", concurrency, ahead=1 if is_gpu else 0)

    replaced: Any = loading
    replaced.read = lambda settings, device: read_simulated(settings, device, options.dim)
    replaced.build = build
    from celery.bin.celery import main as celery

    sys.argv = ["celery", "-A", "bertq", *rest]
    sys.exit(celery())


if __name__ == "__main__":
    main()
