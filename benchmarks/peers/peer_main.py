"""Runs one peer: ``PEER MODEL_DIR MAX_SEQ_LEN THREADS DEVICE VARIANT...``.

Reads commands from standard input and answers on standard output, a line of JSON each. The output
of libraries goes to standard error. Between two commands the process is idle.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

#: float32 ``[n, dim]``.
Rows: TypeAlias = npt.NDArray[np.float32]
Encode: TypeAlias = Callable[[Sequence[str]], Rows]


class Settings(NamedTuple):
    """Settings that all peers share.

    Attributes:
        model_dir: directory of the model.
        max_seq_len: wordpieces that are read.
        threads: of each library.
        device: ``cpu`` or ``gpu``; only some peers run on a GPU.
    """

    model_dir: Path
    max_seq_len: int
    threads: int
    device: str = "cpu"


def main(
    peer: str, model_dir: str, max_seq_len: str, threads: str, device: str, *variants: str
) -> None:
    """Load the peer and run commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    settings = Settings(Path(model_dir), int(max_seq_len), int(threads), device)
    commands = PeerCommands(module, module.load(settings, variants))
    print(json.dumps(commands.versions()), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(commands, command.pop("command"))(**command)
        print(json.dumps(answer), file=answers, flush=True)


class PeerCommands:
    """The commands of a peer; every method is one."""

    def __init__(self, module: Any, loaded: dict[str, Encode]) -> None:
        self._module = module
        self._loaded = loaded
        self._texts: list[str] = []

    def versions(self) -> dict[str, str]:
        """Return the versions of the peer's packages."""
        found = {}
        for name in self._module.PACKAGES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "from the checkout"
        return found

    def texts(self, path: str) -> int:
        """Take the sentences, one a line, for the other commands."""
        self._texts = Path(path).read_text(encoding="utf-8").splitlines()
        return len(self._texts)

    def bulk(self, variant: str) -> float:
        """Encode all of them; return the seconds."""
        return _seconds(self._loaded[variant], self._texts)

    def compute(self, variant: str) -> float:
        """Encode all of them, which are tokenized before; return the seconds."""
        compute = self._module.prepare(self._loaded[variant], self._texts)
        start = time.perf_counter()
        compute()
        return time.perf_counter() - start

    def calls(self, variant: str, start: int, count: int, size: int = 1) -> list[float]:
        """Encode ``count`` times ``size`` of them, one call after another; return the seconds."""
        encode = self._loaded[variant]
        starts = range(start, start + count * size, size)
        return [_seconds(encode, self._texts[first : first + size]) for first in starts]

    def batches(self, variant: str) -> list[float]:
        """Encode them batch by batch; return the seconds of each."""
        encode = self._loaded[variant]
        return [_seconds(encode, batch) for batch in self._module.batches(encode, self._texts)]

    def warm_up(self, variant: str, singles: int) -> Any:
        """Encode them until all is compiled; return the costs, as the peer reports them."""
        return self._module.warm_up(self._loaded[variant], self._texts, singles)

    def vectors(self, variant: str, path: str) -> list[int]:
        """Write their vectors to a ``.npy`` file; return the shape."""
        rows = self._loaded[variant](self._texts)
        np.save(path, rows)
        return list(rows.shape)


def _seconds(encode: Encode, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    encode(texts)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
