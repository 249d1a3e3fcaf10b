"""Starts and controls the process of a peer."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from benchmarks.peers.peer_main import Settings

_ROOT = Path(__file__).resolve().parents[2]
_TAIL_LINES = 5


class PeerFailed(click.ClickException):
    """A peer has ended, or its vectors differ."""


class PeerProcess:
    """A peer in its own process; ``with`` ends it.

    Args:
        peer: name of its file.
        settings: the model and the device, for all peers the same.
        variants: the variants to load.
        python: the interpreter that has its packages.

    Raises:
        PeerFailed: it cannot be loaded.
    """

    def __init__(
        self,
        peer: str,
        settings: Settings,
        variants: Sequence[str],
        python: str = sys.executable,
    ) -> None:
        self.peer = peer
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        program = [python, "-m", "benchmarks.peers.peer_main", peer]
        program += [*map(str, settings), *variants]
        limited = {name: str(settings.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TOKENIZERS_PARALLELISM": "true"}
        gpus = {"CUDA_VISIBLE_DEVICES": "-1"}
        if settings.device == "gpu":  # all libraries number them as nvidia-smi does
            gpus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        self._process = subprocess.Popen(
            program,
            cwd=_ROOT,
            env={**os.environ, **limited, **quiet, **gpus, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.versions: dict[str, str] = self._answer()
        except BaseException:
            self.kill()
            self._close()
            raise

    def call(self, command: str, **arguments: Any) -> Any:
        """Run a command of ``peer_main.PeerCommands`` and return the answer.

        Raises:
            PeerFailed: the process has ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its output explains more
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        """Kill the process; a running command fails."""
        self._process.kill()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.kill()
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()[-_TAIL_LINES:]
        raise PeerFailed(f"{self.peer} has ended: " + "\n".join(lines))
