"""The page about bertq's encoder and its peers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.peers.comparison import PEERS, Comparison, Variant, dtype_of
from bertq_cli.bench.arithmetic import Arithmetic
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.peak import Peak


@dataclass(frozen=True)
class Machine:
    """Speed of the machine, and the data for shares of it.

    Attributes:
        peak: the speed of large products, and of reading the memory.
        network: the products of the network.
        lengths: tokens of each sentence.
    """

    peak: Peak
    network: Arithmetic
    lengths: Sequence[int]

    def bulk(self, sentences_per_second: float) -> float:
        """Return the operations per second when all sentences are encoded."""
        return sentences_per_second * self.network.operations(self.lengths) / len(self.lengths)

    def single(self, waits_ms: Sequence[float]) -> float:
        """Return the operations per second of calls of one sentence each, the first ones."""
        lengths = self.lengths[: len(waits_ms)]
        return median(
            1000 * self.network.operations([length]) / wait
            for length, wait in zip(lengths, waits_ms, strict=True)
        )


def build_document(comparison: Comparison, facts: Mapping[str, str], machine: Machine) -> Document:
    """Return the page; ratios are above 1 where bertq's float32 is faster."""
    tables = [_compare(comparison), _compare_few(comparison), _compare_shares(comparison, machine)]
    data = []
    for one in comparison.variants:
        speed, waits = comparison.speeds[one], comparison.waits[one]
        data.append({
            "peer": one[0], "variant": one[1], "name": _name(one),
            "sentences_per_second": speed.document(),
            "single_ms": {**comparison.percentiles(one), "values": waits[1]},
            "calls_ms": {str(size): comparison.percentiles(one, size) for size in waits},
            "agreement": comparison.agreement[one],
            "flops": {"bulk": machine.bulk(speed.median), "single": machine.single(waits[1])},
        })  # fmt: skip
    peak = {"flops": dict(machine.peak.flops), "bytes": machine.peak.bytes}
    return Document(
        "bertq's encoder and its peers", facts, tables, {"peers": data, "machine": peak}
    )


def _name(one: Variant) -> str:
    return f"{PEERS[one[0]][0]}, {one[1]}"


def _compare(comparison: Comparison) -> Table:
    """Return the table of all sentences at once, and of one."""
    own = ("own", "float32")
    own = own if own in comparison.processes else comparison.variants[0]
    own_wait = comparison.percentiles(own)["p50"]
    rows = []
    for one in comparison.variants:
        speed, wait = comparison.speeds[one], comparison.percentiles(one)["p50"]
        rows.append([
            _name(one),
            speed.text(),
            f"{comparison.speeds[own].median / speed.median:.2f}",
            f"{wait:.1f}",
            f"{wait / own_wait:.2f}",
            comparison.agreement[one],
        ])  # fmt: skip
    header = [
        "encoder, in process", "sentences/s", "bertq float32 is faster by",
        "one sentence, p50 ms", "bertq float32 is faster by", "farthest from bertq float32",
    ]  # fmt: skip
    note = (
        "Medians (lowest\N{EN DASH}highest). The last column: greatest difference of a number of "
        "any vector, for bfloat16 and int8 the lowest cosine."
    )
    return Table("The same sentences and the same model", header, rows, note)


def _compare_few(comparison: Comparison) -> Table:
    """Return the table of calls of few sentences."""
    sizes = list(comparison.waits[comparison.variants[0]])
    rows = [
        [_name(one), *(f"{comparison.percentiles(one, size)['p50']:.1f}" for size in sizes)]
        for one in comparison.variants
    ]
    header = ["encoder, in process", *(f"{size}, ms" for size in sizes)]
    return Table("Few sentences in a call", header, rows, "Median times of calls.")


def _compare_shares(comparison: Comparison, machine: Machine) -> Table:
    """Return the table of operations and bytes per second."""
    rows = []
    for one in comparison.variants:
        dtype, waits = dtype_of(one[1]), comparison.waits[one][1]
        read = 1000 * machine.network.weight_bytes(dtype) / median(waits)
        rows.append([
            _name(one),
            machine.peak.share(dtype, machine.bulk(comparison.speeds[one].median)),
            machine.peak.share(dtype, machine.single(waits)),
            f"{read / 1e9:.1f} ({read / machine.peak.bytes:.0%})",
        ])  # fmt: skip
    header = [
        "encoder, in process", "all sentences, GFLOP/s", "one sentence, GFLOP/s",
        "one sentence, GB/s of weights",
    ]  # fmt: skip
    note = (
        "The operations of the network's products, padding not counted, and the bytes of its "
        "matrices, each read once for a sentence. In brackets: the share of the speed of the "
        "machine, for products in the same dtype. The share of the bytes can be above 100 %: "
        "weights may stay in the caches of the processor."
    )
    return Table("Share of the machine", header, rows, note)
