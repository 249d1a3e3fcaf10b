"""The encoder in process, in turns with sentence-transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.peers.comparison import (
    Comparison,
    Variant,
    lowest_cosine,
    measure_calls,
    measure_speeds,
)
from bertq_cli.bench import corpus
from bertq_cli.bench.timing import MedianRange


@dataclass(frozen=True)
class Speed:
    """Speed of one encoder with sentences of one length.

    Attributes:
        bulk: sentences/s, all in one call.
        compute: the same without tokenizing.
        single_ms: median time of a call of one sentence.
    """

    bulk: MedianRange
    compute: MedianRange
    single_ms: float


@dataclass(frozen=True)
class EncoderResult:
    """Speed of a variant of bertq's encoder beside its peer.

    Attributes:
        variant: dtype, and ``XLA`` if the shapes of batches are compiled.
        tokens: of each sentence; None for the clauses of the corpus.
        own: bertq.
        peer: the peer with its best batches, in the same dtype; None if it is not installed.
        peer_variant: dtype and batches of the peer.
        cosine: the lowest of a row of bertq with that of the peer.
    """

    variant: str
    tokens: int | None
    own: Speed
    peer: Speed | None = None
    peer_variant: str | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class EncoderCost:
    """Compilations and memory of a process with one encoder.

    Attributes:
        shapes: number of shapes of batches that XLA has compiled.
        compile_seconds: time of that.
        compile_errors: number of shapes that could not be compiled.
        peak_bytes: most bytes of the GPU's memory that TensorFlow has used; None on a CPU.
    """

    shapes: int
    compile_seconds: float
    compile_errors: int
    peak_bytes: int | None


def make_texts(tokens: int, number: int, count: corpus.Count) -> list[str]:
    """Return sentences of a number of tokens, of random words of the corpus with one token each.

    Args:
        tokens: tokens of each sentence, ``[CLS]`` and ``[SEP]`` included.
        number: how many sentences.
        count: counts tokens.
    """
    words = sorted({word for clause in corpus.clauses() for word in clause.split()})
    short = [word for word, size in zip(words, count(words), strict=True) if size == 3]
    choices = np.random.default_rng(tokens).integers(0, len(short), (number, tokens - 2))
    return [" ".join(short[choice] for choice in row) for row in choices]


def measure_encoder(
    comparison: Comparison, texts: Sequence[str], tokens: int | None, rounds: int, singles: int
) -> list[EncoderResult]:
    """Measure all variants of a comparison; bertq's have compiled the shapes of these sentences.

    Args:
        comparison: bertq, and the peer if it is installed.
        texts: the sentences.
        tokens: tokens of each, or None.
        rounds: measurements.
        singles: calls of one sentence.
    """
    comparison.send_texts(texts)
    own = _own_variants(comparison)
    peers = [one for one in comparison.variants if one not in own]
    for one in own:
        comparison.call(one, "warm_up", singles=singles)
    bulk = measure_speeds(comparison, len(texts), rounds)
    compute = measure_speeds(comparison, len(texts), rounds, "compute")
    comparison.waits.clear()
    measure_calls(comparison, rounds, singles, 1)
    speeds = {
        one: Speed(bulk[one], compute[one], median(comparison.waits[one][1]))
        for one in comparison.variants
    }
    if not peers:
        return [EncoderResult(one[1], tokens, speeds[one]) for one in own]
    best = max(peers, key=lambda one: speeds[one].bulk.median)
    rows = comparison.vectors(best)
    return [
        EncoderResult(
            one[1], tokens, speeds[one], speeds[best], best[1],
            lowest_cosine(comparison.vectors(one), rows),
        )
        for one in own
    ]  # fmt: skip


def read_costs(comparison: Comparison) -> dict[str, EncoderCost]:
    """Return the costs of bertq's variants since their start."""
    return {
        one[1]: EncoderCost(**comparison.call(one, "warm_up", singles=1))
        for one in _own_variants(comparison)
    }


def _own_variants(comparison: Comparison) -> list[Variant]:
    return [one for one in comparison.variants if one[0] == "own"]
