"""Peers that encode the same sentences in separate processes, and their measurements."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import click
import numpy as np

from benchmarks.measuring import measure_in_turns, percentiles
from benchmarks.peers.peer_main import Rows, Settings
from benchmarks.peers.process import PeerFailed, PeerProcess
from bertq_cli.bench.timing import MedianRange

#: Names and variants of each file, and a package without which it cannot run. A variant begins with
#: its dtype.
PEERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "own": ("bertq", ("float32", "bfloat16"), "tensorflow"),
    "sbert": ("sentence-transformers", ("float32", "bfloat16"), "sentence_transformers"),
    "ort": (
        "ONNX Runtime",
        (
            *(
                f"float32, {form}, batches of {size}"
                for form in ("plain", "fused")
                for size in (32, 64)
            ),
            "int8, fused, batches of 32",
        ),
        "onnxruntime",
    ),
    "openvino": ("OpenVINO", ("float32", "bfloat16"), "openvino"),
    "ctranslate2": ("CTranslate2", ("float32", "int8"), "ctranslate2"),
    "padded": ("TensorFlow, padded", ("float32",), "tensorflow"),
}

#: Peers that run in the interpreter of bertq.
_WITH_BERTQ = ("own", "padded")

#: Seconds between two measurements, in which threads that spin after their work come to rest.
_REST_SECONDS = 0.3

#: How far float32 vectors may be from bertq's, and the cosine that others must have with it.
TOLERANCE = 1e-4
COSINES = {"float16": 0.999, "bfloat16": 0.999, "int8": 0.9}

#: A peer and a variant of it.
Variant = tuple[str, str]


@dataclass
class Comparison:
    """The running peers and their results.

    Attributes:
        processes: the process of each variant of each peer that is there.
        left_out: why a peer is not there.
        speeds: sentences/s.
        waits: ms of calls one after another, by the number of their sentences.
        agreement: how its vectors agree with those of bertq in float32.
    """

    processes: dict[Variant, PeerProcess] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    speeds: dict[Variant, MedianRange] = field(default_factory=dict)
    waits: dict[Variant, dict[int, list[float]]] = field(default_factory=dict)
    agreement: dict[Variant, str] = field(default_factory=dict)

    @property
    def variants(self) -> list[Variant]:
        """Every variant of every peer that is there."""
        return list(self.processes)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of all packages of the peers."""
        processes = self.processes.values()
        return {name: v for process in processes for name, v in process.versions.items()}

    def call(self, one: Variant, command: str, **arguments: Any) -> Any:
        """Run a command in the process of a variant."""
        return self.processes[one].call(command, variant=one[1], **arguments)

    def send_texts(self, texts: Sequence[str]) -> None:
        """Give all peers the sentences for the next commands."""
        with NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write("\n".join(texts))
            file.flush()
            for process in set(self.processes.values()):
                process.call("texts", path=file.name)

    def vectors(self, one: Variant) -> Rows:
        """Return the vectors of the sentences."""
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / "vectors.npy"
            self.call(one, "vectors", path=str(path))
            rows: Rows = np.load(path)
            return rows

    def percentiles(self, one: Variant, size: int = 1) -> dict[str, float]:
        """Return the percentiles of calls of ``size`` sentences, in ms."""
        return percentiles(self.waits[one][size])


def dtype_of(variant: str) -> str:
    """Return the dtype with which the name of a variant begins."""
    return variant.partition(",")[0]


def has_package(python: str, package: str) -> bool:
    """Return whether an interpreter has a package."""
    asked = [python, "-c", f"import importlib.util as u; exit(not u.find_spec({package!r}))"]
    return not subprocess.run(asked, capture_output=True).returncode


def start_peer(
    comparison: Comparison,
    stack: ExitStack,
    peer: str,
    settings: Settings,
    peers_python: str,
    variants: Sequence[str] = (),
) -> None:
    """Start a peer, unless its package is not installed.

    Args:
        comparison: gets the process.
        stack: ends it.
        peer: name of its file.
        settings: the model and the device.
        peers_python: interpreter of the peers that do not need bertq.
        variants: instead of all that are listed.
    """
    name, listed, package = PEERS[peer]
    variants = variants or listed
    python = sys.executable if peer in _WITH_BERTQ else peers_python
    if not has_package(python, package):
        comparison.left_out.append(f"{name}: {package} is not installed")
        click.echo(comparison.left_out[-1], err=True)
        return
    start = time.perf_counter()
    process = stack.enter_context(PeerProcess(peer, settings, variants, python))
    comparison.processes |= {(peer, variant): process for variant in variants}
    click.echo(f"{name}: loaded in {time.perf_counter() - start:.1f} s", err=True)


def check_vectors(comparison: Comparison, texts: Sequence[str]) -> None:
    """Check that all give the vectors of bertq in float32, or of the first that is there."""
    comparison.send_texts(texts)
    reference = None
    for one in comparison.variants:
        rows = comparison.vectors(one)
        if reference is None:
            reference = rows
        comparison.agreement[one] = describe_agreement(one, rows, reference)


def describe_agreement(one: Variant, rows: Rows, reference: Rows) -> str:
    """Return how vectors agree with a reference, in words.

    Raises:
        PeerFailed: they do not.
    """
    if rows.shape != reference.shape:
        raise PeerFailed(f"{one}: vectors {rows.shape}, and not {reference.shape}")
    dtype = dtype_of(one[1])
    if dtype in COSINES:
        lowest = lowest_cosine(rows, reference)
        if not lowest >= COSINES[dtype]:
            raise PeerFailed(f"{one}: a cosine of {lowest:.5f}, at least {COSINES[dtype]} is due")
        return f"cosine {lowest:.5f}"
    farthest = float(np.abs(rows - reference).max())
    if not farthest <= TOLERANCE:
        raise PeerFailed(f"{one}: a number is off by {farthest:.1e}, at most {TOLERANCE} may be")
    return f"{farthest:.0e}"


def lowest_cosine(rows: Rows, reference: Rows) -> float:
    """Return the lowest cosine of a row with that of the reference."""
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    return float((np.sum(rows * reference, axis=1) / norms).min())


def measure(
    comparison: Comparison,
    texts: Sequence[str],
    rounds: int,
    singles: int,
    few: Sequence[int] = (),
) -> None:
    """Measure all peers in turns: all sentences at once, single ones, and few at once.

    Args:
        comparison: the peers, and where the results go.
        texts: the sentences.
        rounds: measurements of all sentences.
        singles: calls of one sentence; calls of more have as many sentences together.
        few: sentences of a call.
    """
    comparison.send_texts(texts)
    comparison.speeds = measure_speeds(comparison, len(texts), rounds)
    for size in (1, *few):
        measure_calls(comparison, rounds, singles // size, size)


def measure_speeds(
    comparison: Comparison, sentences: int, rounds: int, command: str = "bulk"
) -> dict[Variant, MedianRange]:
    """Measure the rate of all sentences at once, in turns.

    Args:
        comparison: the peers; they have the sentences.
        sentences: their number.
        rounds: measurements.
        command: returns the seconds.
    """

    def measure_once(one: Variant) -> float:
        speed: float = sentences / comparison.call(one, command)
        click.echo(f"{' '.join(one)}: {speed:.0f} sentences/s", err=True)
        return speed

    names = {"/".join(one): one for one in comparison.variants}
    measurements: Mapping[str, Callable[[], float]] = {
        name: partial(measure_once, one) for name, one in names.items()
    }
    rates = measure_in_turns(measurements, rounds, pause=lambda: time.sleep(_REST_SECONDS))
    return {one: rates[name] for name, one in names.items()}


def measure_calls(comparison: Comparison, rounds: int, calls: int, size: int) -> None:
    """Measure calls of ``size`` sentences, at least one in each round."""
    calls = max(calls, 1)
    share = -(-calls // rounds)
    for first in range(0, calls, share):
        count = min(share, calls - first)
        for one in comparison.variants:
            arguments = {"start": first * size, "size": size}
            comparison.call(one, "calls", count=min(count, 3), **arguments)  # wakes its threads
            seconds = comparison.call(one, "calls", count=count, **arguments)
            waits = comparison.waits.setdefault(one, {}).setdefault(size, [])
            waits.extend(1000 * value for value in seconds)
            time.sleep(_REST_SECONDS)
