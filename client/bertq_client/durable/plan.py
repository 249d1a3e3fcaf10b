"""The plan of a durable job: which rows its chunks fill. Redis stores it for later readers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from bertq.errors import WireError
from bertq.protocol import wire
from bertq_client.outbox.deduplication import PlannedChunk


def pack(plan: Sequence[PlannedChunk]) -> bytes:
    """Return a plan as bytes, about four for each row; eight if sentences are repeated."""
    places = np.concatenate([chunk.places for chunk in plan])
    smallest = np.uint32 if len(places) < 2**32 else np.uint64
    packed: dict[str, Any] = {
        "sentences": np.array([len(chunk.sentences) for chunk in plan], np.uint32),
        "rows": np.array([len(chunk.places) for chunk in plan], np.uint32),
        "places": places.astype(smallest),
    }
    # Either all chunks of a job have sources, or none.
    if sources := [chunk.sources for chunk in plan if chunk.sources is not None]:
        packed["sources"] = np.concatenate(sources).astype(np.uint32)
    return wire.dumps(packed)


def unpack(payload: bytes, rows: int) -> list[PlannedChunk]:
    """Return the plan of an answer of ``rows`` rows.

    The plan has no indices of sentences: each chunk gets its original number of sentences, counted
    from 0.

    Raises:
        WireError: the payload is not a valid plan.
    """
    value = wire.loads(payload)
    fields = ("sentences", "rows", "places")
    if not isinstance(value, dict) or not all(_is_numbers(value.get(name)) for name in fields):
        raise WireError("the plan of a job must be arrays of whole numbers")
    sentences, sizes, places = (value[name].astype(np.intp) for name in fields)
    sources = value.get("sources")
    if sources is not None and not (_is_numbers(sources) and len(sources) == rows):
        raise WireError("the sources in the plan of a job must be a whole number for each row")
    if len(places) != rows or not np.array_equal(np.sort(places), np.arange(rows)):
        raise WireError(f"the plan of a job must name each of its {rows} rows once")
    if len(sentences) != len(sizes) or (sizes < 1).any() or sizes.sum() != rows:
        raise WireError("the chunks in the plan of a job must have its rows together")
    chunks = []
    for (first, end), count in zip(pairwise([0, *np.cumsum(sizes)]), sentences, strict=True):
        own = None if sources is None else sources[first:end].astype(np.intp)
        if (end - first != count) if own is None else not _covers(own, int(count)):
            raise WireError("a chunk in the plan of a job must use each of its sentences")
        chunks.append(PlannedChunk(np.arange(count), places[first:end], own))
    return chunks


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "u"


def _covers(sources: "np.ndarray[Any, np.dtype[np.intp]]", count: int) -> bool:
    return count <= len(sources) and int(sources.max()) < count
