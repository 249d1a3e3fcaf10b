"""Compares bertq's encoder with its peers: ``python -m benchmarks.peers``.

The same sentences, the same model and the same number of threads for all; each peer in a process of
its own, which is idle while another one is timed; rounds in turns. Before anything is timed, all
must give the same vectors. The same run measures the machine: large products, and reading its
memory.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.peers.comparison import PEERS, Comparison, check_vectors, measure, start_peer
from benchmarks.peers.page import Machine, build_document
from benchmarks.peers.peer_main import Settings
from benchmarks.results import RESULTS, describe_context, write_results
from bertq.system import cores
from bertq_cli.bench import corpus
from bertq_cli.bench.arithmetic import read_arithmetic
from bertq_cli.bench.peak import measure_peak
from bertq_cli.models import packaged

#: Sentences of a call, beside one and all.
FEW = (2, 4, 8, 16)


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
            settings = Settings(directory, max_seq_len, threads)
            start_peer(comparison, stack, peer, settings, peers_python)
        check_vectors(comparison, texts[: min(512, sentences)])
        peak = measure_peak("cpu", threads, ["float32", "bfloat16"])
        measure(comparison, texts, rounds, min(singles, sentences), FEW)
        peak = peak.better(measure_peak("cpu", threads, ["float32", "bfloat16"]))
    tokens = corpus.token_counter(directory)(texts)
    lengths = [min(count, max_seq_len) for count in tokens]
    facts = {
        **machine_context,
        "speed of the machine": str(peak),
        "libraries": ", ".join(f"{name} {number}" for name, number in comparison.versions.items()),
        "settings": f"{sentences:,} sentences, max_seq_len {max_seq_len}, mean of the last layer, "
        f"{threads} threads each, {rounds} rounds in turns",
    }
    if comparison.left_out:
        facts["left out"] = "; ".join(comparison.left_out)
    shares = Machine(peak, read_arithmetic(directory), lengths)
    write_results(build_document(comparison, facts, shares), output, "peers")


if __name__ == "__main__":
    main()
