"""The page with the results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.gpu.encoder import EncoderCost, EncoderResult
from benchmarks.gpu.end_to_end import IN_PROCESS, QueueResult
from bertq_cli.bench.document import Document, Table

#: Sentences/s that were published for the first bert-as-service, by max_seq_len, with one model on
#: a Tesla M40.
PUBLISHED = {20: 787, 40: 381, 80: 156, 160: 112, 320: 51}
_PUBLISHED_MODEL = "BERT-base"

_NONE = "\N{EN DASH}"


@dataclass
class ModelResult:
    """Results with one model in one dtype; incomplete if a process has failed.

    Attributes:
        model: its name.
        encoders: the encoder in process, by kind of sentences and variant.
        costs: of each variant.
        queues: the worker, by its variant.
    """

    model: str
    encoders: list[EncoderResult] = field(default_factory=list)
    costs: dict[str, EncoderCost] = field(default_factory=dict)
    queues: dict[str, QueueResult] = field(default_factory=dict)


def build_document(results: Sequence[ModelResult], facts: Mapping[str, str]) -> Document:
    """Return the page; ratios are above 1 where bertq is faster."""
    models = dict.fromkeys(result.model for result in results)
    tables = [
        *(_compare(model, [one for one in results if one.model == model]) for model in models),
        _compare_costs(results),
        _compare_queues(results),
    ]
    data = {"models": [asdict(result) for result in results], "published": PUBLISHED}
    return Document("bertq on a GPU", facts, tables, data)


def _compare(model: str, results: Sequence[ModelResult]) -> Table:
    """Return the table of the encoder in process with one model."""
    header = [
        "dtype, tokens of a sentence", "bertq, sentences/s", "without tokenizing",
        "sentence-transformers", "without tokenizing", "its batches", "bertq is faster by",
        "without tokenizing", "one sentence, bertq, p50 ms", "sentence-transformers",
        "lowest cosine",
    ]  # fmt: skip
    rows = [_cells(encoder) for result in results for encoder in result.encoders]
    note = (
        "Medians (lowest\N{EN DASH}highest). Sentences of sentence-transformers are sorted by "
        "length; its batches are those with the highest rate of some sizes."
    )
    if model == _PUBLISHED_MODEL:
        header.append("bert-as-service, Tesla M40")
        encoders = [encoder for result in results for encoder in result.encoders]
        for row, encoder in zip(rows, encoders, strict=True):
            row.append(_text(PUBLISHED.get(encoder.tokens or 0), ",.0f"))
        note += " The last column was published for the first bert-as-service, by max_seq_len."
    return Table(f"{model}, in process", header, rows, note)


def _cells(result: EncoderResult) -> list[str]:
    own, peer = result.own, result.peer
    kind = "the corpus" if result.tokens is None else str(result.tokens)
    name = f"{result.variant}, {kind}"
    cells = [name, own.bulk.text(), own.compute.text()]
    if peer is None:
        return [*cells, *[_NONE] * 5, f"{own.single_ms:.1f}", _NONE, _NONE]
    assert result.peer_variant is not None
    return [
        *cells,
        peer.bulk.text(),
        peer.compute.text(),
        result.peer_variant.rpartition(" ")[2],
        f"{own.bulk.median / peer.bulk.median:.2f}",
        f"{own.compute.median / peer.compute.median:.2f}",
        f"{own.single_ms:.1f}",
        f"{peer.single_ms:.1f}",
        _text(result.cosine, ".5f"),
    ]


def _compare_costs(results: Sequence[ModelResult]) -> Table:
    """Return the table of compilations and of the card's memory."""
    rows = [
        [
            f"{result.model}, {variant}",
            str(cost.shapes),
            f"{cost.compile_seconds:.1f}",
            str(cost.compile_errors),
            _text(None if cost.peak_bytes is None else cost.peak_bytes / 2**20, ",.0f"),
        ]
        for result in results
        for variant, cost in result.costs.items()
    ]
    header = ["model, dtype", "compiled shapes", "s in all", "failed", "memory of the card, MiB"]
    note = (
        "Of the process with the encoder, for all sentences of the tables above: the shapes of "
        "batches that XLA has compiled before anything was timed, and the most memory that "
        "TensorFlow has used."
    )
    return Table("Compilation and memory", header, rows, note)


def _compare_queues(results: Sequence[ModelResult]) -> Table:
    """Return the table of the worker."""
    rows = [
        [
            f"{result.model}, {variant}, {name}",
            rate.text(),
            _NONE if name == IN_PROCESS else f"{queue.ratio(name):.2f}",
            *(_text(queue.latencies_ms.get(name, {}).get(key), ".1f") for key in ("p50", "p99")),
        ]
        for result in results
        for variant, queue in result.queues.items()
        for name, rate in queue.rates.items()
    ]
    header = ["model, dtype, calls", "sentences/s", "of the encoder in process", "p50 ms", "p99 ms"]
    note = (
        "One worker, Redis and one client on this machine, in turns with the encoder in process: "
        "the clauses of the corpus, all in one call, or as single sentences from threads."
    )
    return Table("Through the queue", header, rows, note)


def _text(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)
