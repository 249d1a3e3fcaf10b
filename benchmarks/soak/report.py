"""The page about a soak test, and its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.soak.clients import CANCELLER
from benchmarks.soak.run import Options, SoakResult
from bertq_cli.bench.document import Document, Table

_MIB = 2**20
_KINDS = {
    "bulk": "bulk: 2,048 to 10,000 sentences, two requests at a time",
    "singles": "singles: 16 threads, a sentence each",
    "mixed": "mixed: 6 coroutines, 1 to 1,500 sentences",
    CANCELLER: "canceller: cancels, times out, is killed",
}
_NOTE = (
    "Every sentence has a row of its own, known beforehand. Requests of the canceller do "
    "not count as asked; its wrong rows, errors and second answers count."
)


def find_faults(found: SoakResult) -> list[str]:
    """Return a sentence about each fault."""
    total = sum_totals(found)
    unfinished = [kind for kind, one in found.counts_by_kind.items() if not one.get("final")]
    messages = {
        found.failure: found.failure,
        f"{total['lost']} requests were never answered": total["lost"],
        f"{total['failed']} requests failed": total["failed"],
        f"{total['wrong']} rows are wrong": total["wrong"],
        f"{total['doubled']} answers came twice": total["doubled"],
        f"left in Redis: {_named(found.leftovers)}": found.leftovers,
        f"left in Redis by workers that were stopped: {_named(found.leftovers_after_workers)}": (
            found.leftovers_after_workers
        ),
        f"clients that did not end: {', '.join(unfinished)}": unfinished,
        f"workers ended by themselves: {_counts(found.ended_workers)}": found.ended_workers,
        f"{found.late_workers} workers did not end when they were asked to": found.late_workers,
        f"{total['asked'] - total['answered']} rows are missing": total["asked"]
        - total["answered"],
    }
    return [text for text, faults in messages.items() if faults]


def sum_totals(found: SoakResult) -> dict[str, int]:
    """Return the counters of all clients together; the canceller counts only in faults."""
    counted = [one for kind, one in found.counts_by_kind.items() if kind != CANCELLER]
    everyone = found.counts_by_kind.values()
    return {
        "requests": _sum(counted, "requests"),
        "asked": _sum(counted, "asked"),
        "answered": _sum(counted, "answered"),
        "wrong": _sum(everyone, "wrong"),
        "doubled": _sum(everyone, "doubled"),
        "lost": _sum(everyone, "lost"),
        "failed": sum(sum(one.get("errors", {}).values()) for one in everyone),
        "resent": _sum(everyone, "resent"),
    }


def build_document(found: SoakResult, options: Options, facts: Mapping[str, str]) -> Document:
    """Return the page."""
    faults = find_faults(found)
    context = {
        **facts,
        "settings": f"seed {options.seed}, {options.workers} workers that are killed"
        f"{' and one that is not' if options.survivor else ''}, {options.batch_ms:g} ms for 256 "
        f"rows of {options.dim} numbers, the service's own visibility timeout",
        "outcome": "; ".join(faults) or "nothing lost, wrong, doubled or left over",
    }
    tables = [_summary_table(found), _clients_table(found), _memory_table(found, options)]
    messages = [
        [kind, text]
        for kind, one in found.counts_by_kind.items()
        for text in one.get("messages", [])
    ]
    if messages:
        tables.append(Table("First errors", ["client", "message"], messages))
    data: dict[str, Any] = {
        "faults": faults,
        "totals": sum_totals(found),
        "options": asdict(options),
        **asdict(found),
    }
    return Document("Killed workers and a restarted Redis, for a long while", context, tables, data)


def _summary_table(found: SoakResult) -> Table:
    total, chunks = sum_totals(found), found.chunks
    rows = {
        "duration": f"{found.seconds / 60:.1f} min",
        "rows asked / answered": f"{total['asked']:,} / {total['answered']:,}",
        "requests": f"{total['requests']:,}",
        "chunks computed": f"{chunks.get('computed', 0):,}",
        "... of them again": f"{chunks.get('again', 0):,}",
        "chunks delivered again by Redis": f"{chunks.get('redelivered', 0):,}",
        "chunks sent again by clients": f"{total['resent']:,}",
        "chunks that failed": f"{chunks.get('failed', 0):,}",
        "workers killed": _counts(found.killed_workers),
        "workers that ended by themselves": _counts(found.ended_workers),
        "clients killed": str(found.client_kills),
        "Redis ended and started again": _counts(
            {name: n for name, n in found.restarts.items() if name != "wiped"}
        ),
        "... of that without its data": str(found.restarts.get("wiped", 0)),
        "requests lost": str(total["lost"]),
        "requests failed": str(total["failed"]),
        "rows wrong": str(total["wrong"]),
        "answers that came twice": str(total["doubled"]),
        "left in Redis": _named(found.leftovers) or "nothing",
        "... after the workers were stopped": _named(found.leftovers_after_workers) or "nothing",
        "bindings of kombu's": str(found.bindings),
        "tracebacks of clients": str(found.tracebacks),
    }
    return Table("All in all", ["", ""], [list(row) for row in rows.items()])


def _clients_table(found: SoakResult) -> Table:
    header = ["client", "requests", "rows asked", "rows answered", "given up", "errors", "wrong",
              "twice", "lost", "p50 ms", "p99 ms", "max ms"]  # fmt: skip
    rows = []
    for kind, one in found.counts_by_kind.items():
        counts = [one.get("requests", 0), one.get("asked", 0), one.get("answered", 0),
                  one.get("given_up", 0)]  # fmt: skip
        faults = [one.get(name, 0) for name in ("wrong", "doubled", "lost")]
        seconds = one.get("seconds", {})
        rows.append([
            _KINDS[kind], *(f"{count:,}" for count in counts), _counts(one.get("errors", {})),
            *map(str, faults), *(_ms(seconds.get(name)) for name in ("p50", "p99", "max")),
        ])  # fmt: skip
    return Table("Clients", header, rows, _NOTE)


def _memory_table(found: SoakResult, options: Options) -> Table:
    note = (
        "Resident memory, medians: after the first fifth of the time, and in its last tenth. Redis "
        "begins anew with each restart, and holds what is under way."
    )
    rows = []
    for name, samples in found.memory.items():
        first, last = median_memory(samples, options.seconds)
        ratio = f"{last / first:.2f}" if first else "-"
        most = max(size for _, size in samples) / _MIB
        rows.append([name, f"{first / _MIB:.0f}", f"{last / _MIB:.0f}", ratio, f"{most:.0f}"])
    header = ["process", "warm, MiB", "at the end, MiB", "ratio", "most, MiB"]
    return Table("Memory", header, rows, note)


def median_memory(samples: Sequence[tuple[float, int]], seconds: float) -> tuple[float, float]:
    """Return the median of the third tenth of the time, and that of the last.

    A client needs that long to meet the largest requests at once that it will have.
    """

    def middle(first: float, last: float) -> float:
        part = [size for moment, size in samples if first <= moment / seconds < last]
        return median(part) if part else 0.0

    return middle(0.2, 0.3), middle(0.9, float("inf"))


def _sum(counts_by_kind: Any, name: str) -> int:
    return sum(one.get(name) or 0 for one in counts_by_kind)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"


def _named(leftovers: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({what})" for name, what in leftovers.items())


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.0f}"
