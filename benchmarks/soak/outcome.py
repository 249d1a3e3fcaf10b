"""What a soak has found, as a page, and whether it is as it must be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.soak.crowd import QUITTER
from benchmarks.soak.run import Findings, Options
from bertq_cli.bench.document import Document, Table

_MIB = 2**20
_KINDS = {
    "bulk": "bulk: 2,048 to 10,000 sentences, two requests at a time",
    "singles": "singles: 16 threads, a sentence each",
    "mixed": "mixed: 6 coroutines, 1 to 1,500 sentences",
    QUITTER: "quitter: cancels, times out, is killed",
}
_NOTE = (
    "Every sentence has a row of its own, known beforehand. What the quitter asks for and gives up "
    "does not count as asked; wrong rows, errors and second answers of it count."
)


def faults(found: Findings) -> list[str]:
    """Return what must not be, in words; nothing if all is well."""
    total = totals(found)
    unfinished = [kind for kind, one in found.ledgers.items() if not one.get("final")]
    said = {
        found.broken: found.broken,
        f"{total['lost']} requests were never answered": total["lost"],
        f"{total['failed']} requests failed": total["failed"],
        f"{total['wrong']} rows are wrong": total["wrong"],
        f"{total['doubled']} answers came twice": total["doubled"],
        f"left in Redis: {_named(found.left)}": found.left,
        f"left in Redis by workers that were stopped: {_named(found.left_by_workers)}": (
            found.left_by_workers
        ),
        f"clients that did not end: {', '.join(unfinished)}": unfinished,
        f"workers ended by themselves: {_counts(found.ended)}": found.ended,
        f"{found.late} workers did not end when they were asked to": found.late,
        f"{total['asked'] - total['answered']} rows are missing": total["asked"]
        - total["answered"],
    }
    return [text for text, bad in said.items() if bad]


def totals(found: Findings) -> dict[str, int]:
    """Return the counters of all clients together; those of the quitter as far as they count."""
    counted = [one for kind, one in found.ledgers.items() if kind != QUITTER]
    everyone = found.ledgers.values()
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


def build_document(found: Findings, options: Options, facts: Mapping[str, str]) -> Document:
    """Return the page."""
    bad = faults(found)
    around = {
        **facts,
        "settings": f"seed {options.seed}, {options.workers} workers that are killed"
        f"{' and one that is not' if options.survivor else ''}, {options.batch_ms:g} ms for 256 "
        f"rows of {options.dim} numbers, the service's own visibility timeout",
        "outcome": "; ".join(bad) or "nothing lost, wrong, doubled or left over",
    }
    tables = [_whole(found), _clients(found), _memory(found, options)]
    said = [[kind, text] for kind, one in found.ledgers.items() for text in one.get("said", [])]
    if said:
        tables.append(Table("What went wrong, the first of it", ["client", "what"], said))
    data: dict[str, Any] = {
        "faults": bad,
        "totals": totals(found),
        "options": asdict(options),
        **asdict(found),
    }
    return Document("Killed workers and a restarted Redis, for a long while", around, tables, data)


def _whole(found: Findings) -> Table:
    total, chunks = totals(found), found.chunks
    rows = {
        "duration": f"{found.seconds / 60:.1f} min",
        "rows asked / answered": f"{total['asked']:,} / {total['answered']:,}",
        "requests": f"{total['requests']:,}",
        "chunks computed": f"{chunks.get('computed', 0):,}",
        "... of them again": f"{chunks.get('again', 0):,}",
        "chunks delivered again by Redis": f"{chunks.get('redelivered', 0):,}",
        "chunks sent again by clients": f"{total['resent']:,}",
        "chunks that failed": f"{chunks.get('failed', 0):,}",
        "workers killed": _counts(found.killed),
        "workers that ended by themselves": _counts(found.ended),
        "clients killed": str(found.client_kills),
        "Redis ended and started again": _counts(
            {name: n for name, n in found.restarts.items() if name != "wiped"}
        ),
        "... of that without its data": str(found.restarts.get("wiped", 0)),
        "requests lost": str(total["lost"]),
        "requests failed": str(total["failed"]),
        "rows wrong": str(total["wrong"]),
        "answers that came twice": str(total["doubled"]),
        "left in Redis": _named(found.left) or "nothing",
        "... after the workers were stopped": _named(found.left_by_workers) or "nothing",
        "bindings of kombu's": str(found.bindings),
        "tracebacks of clients": str(found.complaints),
    }
    return Table("All in all", ["", ""], [list(row) for row in rows.items()])


def _clients(found: Findings) -> Table:
    header = ["client", "requests", "rows asked", "rows answered", "given up", "errors", "wrong",
              "twice", "lost", "p50 ms", "p99 ms", "max ms"]  # fmt: skip
    rows = []
    for kind, one in found.ledgers.items():
        counts = [one.get("requests", 0), one.get("asked", 0), one.get("answered", 0),
                  one.get("given_up", 0)]  # fmt: skip
        bad = [one.get(name, 0) for name in ("wrong", "doubled", "lost")]
        seconds = one.get("seconds", {})
        rows.append([
            _KINDS[kind], *(f"{count:,}" for count in counts), _counts(one.get("errors", {})),
            *map(str, bad), *(_ms(seconds.get(name)) for name in ("p50", "p99", "max")),
        ])  # fmt: skip
    return Table("Clients", header, rows, _NOTE)


def _memory(found: Findings, options: Options) -> Table:
    note = (
        "Resident memory, medians: after the first fifth of the time, and in its last tenth. Redis "
        "begins anew with each restart, and holds what is under way."
    )
    rows = []
    for name, samples in found.memory.items():
        first, last = warm_and_end(samples, options.seconds)
        ratio = f"{last / first:.2f}" if first else "-"
        most = max(size for _, size in samples) / _MIB
        rows.append([name, f"{first / _MIB:.0f}", f"{last / _MIB:.0f}", ratio, f"{most:.0f}"])
    header = ["process", "warm, MiB", "at the end, MiB", "ratio", "most, MiB"]
    return Table("Memory", header, rows, note)


def warm_and_end(samples: Sequence[tuple[float, int]], seconds: float) -> tuple[float, float]:
    """Return the median of the third tenth of the time, and that of the last.

    A client needs that long to meet the largest requests at once that it will have.
    """

    def middle(first: float, last: float) -> float:
        part = [size for moment, size in samples if first <= moment / seconds < last]
        return median(part) if part else 0.0

    return middle(0.2, 0.3), middle(0.9, float("inf"))


def _sum(ledgers: Any, name: str) -> int:
    return sum(one.get(name) or 0 for one in ledgers)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"


def _named(left: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({what})" for name, what in left.items())


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.0f}"
