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

from benchmarks.peers.guest import Guest, PeerFailed
from benchmarks.results import RESULTS, context, put
from benchmarks.turns import in_turns, percentiles
from bertq.system import cores
from bertq_cli import demo_download
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.timing import MedianRange

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
_REST = 0.3

#: How far float32 vectors may be from bertq's, and the cosine that bfloat16 ones must have with it.
TOLERANCE, COSINE = 1e-4, 0.999

Contestant = tuple[str, str]


@dataclass
class Contest:
    """Peers that are ready, and what came out.

    Attributes:
        guests: by file.
        left_out: why a peer is not there.
        speeds: sentences/s.
        waits: ms of single sentences, one after another.
        agreement: how its vectors agree with those of bertq in float32.
    """

    guests: dict[str, Guest] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    speeds: dict[Contestant, MedianRange] = field(default_factory=dict)
    waits: dict[Contestant, list[float]] = field(default_factory=dict)
    agreement: dict[Contestant, str] = field(default_factory=dict)

    @property
    def contestants(self) -> list[Contestant]:
        """Every variant of every peer that is there."""
        return [(peer, variant) for peer in self.guests for variant in PEERS[peer][1]]

    def ask(self, one: Contestant, order: str, **arguments: Any) -> Any:
        """Give an order to the process of a contestant."""
        return self.guests[one[0]].ask(order, variant=one[1], **arguments)


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
    directory = demo_download.fetch()
    around = context(directory)
    texts = corpus.make_distinct(sentences)
    with ExitStack() as stack:
        contest = Contest()
        for peer in only or PEERS:
            python = peers_python if peer in ("sbert", "ort") else sys.executable
            admit(contest, stack, peer, (directory, max_seq_len, threads), python)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        agree(contest, texts[: min(512, sentences)], scratch)
        measure(contest, texts, rounds, min(singles, sentences), scratch)
        versions = {
            name: v for guest in contest.guests.values() for name, v in guest.versions.items()
        }
    facts = {
        **around,
        "libraries": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "settings": f"{sentences:,} sentences, max_seq_len {max_seq_len}, mean of the last layer, "
        f"{threads} threads each, {rounds} rounds in turns",
    }
    if contest.left_out:
        facts["left out"] = "; ".join(contest.left_out)
    put(build_document(contest, facts), output, "peers")


def admit(
    contest: Contest, stack: ExitStack, peer: str, how: tuple[Path, int, int], python: str
) -> None:
    """Start a peer, unless its package is not installed."""
    name, variants, package = PEERS[peer]
    asked = [python, "-c", f"import importlib.util as u; exit(not u.find_spec({package!r}))"]
    if subprocess.run(asked, capture_output=True).returncode:
        contest.left_out.append(f"{name}: {package} is not installed")
        click.echo(contest.left_out[-1], err=True)
        return
    start = time.perf_counter()
    contest.guests[peer] = stack.enter_context(Guest(peer, *how, variants, python))
    click.echo(f"{name}: loaded in {time.perf_counter() - start:.1f} s", err=True)


def agree(contest: Contest, texts: Sequence[str], scratch: Path) -> None:
    """Check that all give the vectors of bertq in float32, or of the first that is there."""
    _hand_out(contest, texts, scratch)
    reference = None
    for one in contest.contestants:
        path = scratch / "vectors.npy"
        contest.ask(one, "vectors", path=str(path))
        rows = np.load(path)
        if reference is None:
            reference = rows
        contest.agreement[one] = agreement(one, rows, reference)


def agreement(one: Contestant, rows: Any, reference: Any) -> str:
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


def _hand_out(contest: Contest, texts: Sequence[str], scratch: Path) -> None:
    path = scratch / "texts"
    path.write_text("\n".join(texts), encoding="utf-8")
    for guest in contest.guests.values():
        guest.ask("texts", path=str(path))


def measure(
    contest: Contest, texts: Sequence[str], rounds: int, singles: int, scratch: Path
) -> None:
    """Measure all peers in turns: all sentences at once, and single ones."""
    _hand_out(contest, texts, scratch)

    def rest() -> None:
        time.sleep(_REST)

    def bulk(one: Contestant) -> float:
        speed: float = len(texts) / contest.ask(one, "bulk")
        click.echo(f"{' '.join(one)}: {speed:.0f} sentences/s", err=True)
        return speed

    names = {"/".join(one): one for one in contest.contestants}
    acts: Mapping[str, Callable[[], float]] = {
        name: partial(bulk, one) for name, one in names.items()
    }
    taken = in_turns(acts, rounds, after=rest)
    contest.speeds = {one: taken[name] for name, one in names.items()}
    share = -(-singles // rounds)
    for start in range(0, singles, share):
        count = min(share, singles - start)
        for one in contest.contestants:
            contest.ask(one, "single", start=start, count=3)  # wakes its threads
            seconds = contest.ask(one, "single", start=start, count=count)
            contest.waits.setdefault(one, []).extend(1000 * value for value in seconds)
            rest()


def build_document(contest: Contest, facts: Mapping[str, str]) -> Document:
    """Return the page; ratios are above 1 where bertq's float32 is faster."""
    own = ("own", "float32") if "own" in contest.guests else contest.contestants[0]
    rows, data = [], []
    for one in contest.contestants:
        speed, waits = contest.speeds[one], percentiles(contest.waits[one])
        name = f"{PEERS[one[0]][0]}, {one[1]}"
        rows.append([
            name,
            speed.text(),
            f"{contest.speeds[own].median / speed.median:.2f}",
            f"{waits['p50']:.1f}",
            f"{waits['p50'] / percentiles(contest.waits[own])['p50']:.2f}",
            contest.agreement[one],
        ])  # fmt: skip
        data.append({
            "peer": one[0], "variant": one[1], "name": name,
            "sentences_per_second": speed.document(),
            "single_ms": {**waits, "values": contest.waits[one]},
            "agreement": contest.agreement[one],
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
