"""Compares families of networks with sentence-transformers: ``python -m benchmarks.families``.

Models of well-known shapes with random weights, which the peers' interpreter writes; the contest is
that of ``benchmarks.peers``: the same sentences, the same number of threads, rounds in turns, and
the same vectors before anything is timed.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.peers.__main__ import PEERS, Contest, admit, agree, measure
from benchmarks.peers.random_models import SHAPES
from benchmarks.results import RESULTS, context, put
from benchmarks.turns import percentiles
from bertq.system import cores
from bertq_cli import demo_download
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table

#: The shapes that are measured unless others are named.
_USUAL = ("BERT-base", "XLM-R-base", "MPNet-base", "ModernBERT-base")


@click.command()
@click.option("--rounds", type=click.IntRange(3, 100), default=3, show_default=True)
@click.option("--sentences", type=click.IntRange(1, 4096), default=256, show_default=True)
@click.option("--singles", type=click.IntRange(1, 4096), default=60, show_default=True)
@click.option("--max-seq-len", type=click.IntRange(3, 512), default=40, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores.available(), show_default=True)
@click.option("--peers-python", required=True, metavar="PATH",
              help="Interpreter with the packages of the extra 'peers'.")  # fmt: skip
@click.option("--shape", "shapes", type=click.Choice(list(SHAPES)), multiple=True, default=_USUAL)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    rounds: int, sentences: int, singles: int, max_seq_len: int, threads: int,
    peers_python: str, shapes: tuple[str, ...], output: Path,
) -> None:  # fmt: skip
    """Compare families of networks with sentence-transformers."""
    tokenizer = demo_download.fetch() / "tokenizer.json"
    texts = corpus.make_distinct(sentences)
    contests: dict[str, Contest] = {}
    with tempfile.TemporaryDirectory(prefix="bertq-families-") as scratch:
        for shape in shapes:
            directory = Path(scratch) / shape
            program = [peers_python, "-m", "benchmarks.peers.random_models"]
            subprocess.run([*program, shape, str(tokenizer), str(directory)], check=True)
            click.echo(shape, err=True)
            how = (directory, max_seq_len, threads)
            contests[shape] = _contest(how, texts, rounds, min(singles, sentences), peers_python)
    versions = {
        name: v
        for contest in contests.values()
        for guest in contest.guests.values()
        for name, v in guest.versions.items()
    }
    facts = {
        **context(demo_download.fetch()),
        "model": "random weights in well-known shapes, with the tokenizer of all-MiniLM-L6-v2",
        "libraries": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "settings": f"{sentences:,} sentences, max_seq_len {max_seq_len}, mean of the last layer, "
        f"{threads} threads each, {rounds} rounds in turns",
    }
    put(build_document(contests, facts), output, "families")


def _contest(
    how: tuple[Path, int, int], texts: list[str], rounds: int, singles: int, python: str
) -> Contest:
    """Measure bertq and sentence-transformers on one model."""
    contest = Contest()
    with ExitStack() as stack:
        admit(contest, stack, "own", how, sys.executable)
        admit(contest, stack, "sbert", how, python)
        if len(contest.guests) < 2:
            raise click.ClickException("; ".join(contest.left_out))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        agree(contest, texts[:64], scratch)
        measure(contest, texts, rounds, singles, scratch)
    return contest


def build_document(contests: dict[str, Contest], facts: dict[str, str]) -> Document:
    """Return the page; ratios are above 1 where bertq is faster."""
    rows, data = [], []
    for shape, contest in contests.items():
        for variant in PEERS["own"][1]:
            own, peer = ("own", variant), ("sbert", variant)
            speeds = contest.speeds[own], contest.speeds[peer]
            waits = [percentiles(contest.waits[one]) for one in (own, peer)]
            rows.append([
                f"{shape}, {variant}",
                speeds[0].text(),
                speeds[1].text(),
                f"{speeds[0].median / speeds[1].median:.2f}",
                f"{waits[0]['p50']:.1f}",
                f"{waits[1]['p50']:.1f}",
                f"{waits[1]['p50'] / waits[0]['p50']:.2f}",
                contest.agreement[own] if variant != "float32" else contest.agreement[peer],
            ])  # fmt: skip
            data.append({
                "shape": shape, "variant": variant,
                "sentences_per_second": {
                    "bertq": speeds[0].document(), "peer": speeds[1].document()
                },
                "single_ms": {"bertq": waits[0], "peer": waits[1]},
            })  # fmt: skip
    header = [
        "shape", "bertq, sentences/s", "sentence-transformers", "bertq is faster by",
        "one sentence, bertq, p50 ms", "sentence-transformers", "bertq is faster by", "difference",
    ]  # fmt: skip
    note = (
        "Medians (lowest\N{EN DASH}highest). The last column: in float32 the greatest difference "
        "of a number of any vector between the two, in bfloat16 the lowest cosine with float32."
    )
    table = Table("Families of networks", header, rows, note)
    return Document(
        "Families of networks and sentence-transformers", facts, [table], {"families": data}
    )


if __name__ == "__main__":
    main()
