"""Generated payloads: valid ones are decoded to the same values, hostile ones are refused."""

import tracemalloc
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import msgpack

from bertq.errors import BertqError, WireError
from bertq.protocol import wire
from bertq.protocol.versions import WIRE_VERSION
from bertq.protocol.wire import ChunkResult
from bertq_client.inbox.results import decode

FUZZ = settings(max_examples=300)

DTYPES = [f"{order}{kind}" for order in "<>" for kind in ("f2", "f4", "f8", "i2", "u4", "i8")]
ARRAYS = hnp.arrays(
    dtype=st.sampled_from([*DTYPES, "|u1", "|i1"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    elements=st.integers(0, 100),
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
#: Results as a worker stores them, and similar ones.
STATES = st.sampled_from(["SUCCESS", "FAILURE", "REVOKED", "PENDING"])
VERSIONS = st.just(WIRE_VERSION) | VALUES
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "wire": VERSIONS,
        "rows": ARRAYS | VALUES,
        "fingerprint": st.text(max_size=8) | VALUES,
        "exc_type": st.sampled_from(["ModelMismatch", "VersionMismatch", "E"]) | VALUES,
        "exc_message": st.lists(st.text(max_size=9), max_size=2) | VALUES,
    },
)
METAS = st.fixed_dictionaries(
    {}, optional={"status": STATES | VALUES, "result": RESULTS | VALUES, "task_id": VALUES}
)


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same, NaN and arrays included."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, list):
        return type(other) is list and len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return type(other) is dict and alike([*one, *one.values()], [*other, *other.values()])
    return type(one) is type(other) and (one == other or (one != one and other != other))


def loaded(payload: bytes) -> Any:
    """Decode a payload; a WireError if it is invalid."""
    try:
        return wire.loads(payload)
    except WireError as error:
        return error


def damaged(payload: bytes, data: Any) -> bytes:
    """A payload that is cut, extended, or has other bits."""
    for _ in range(data.draw(st.integers(1, 3), label="times")):
        place = data.draw(st.integers(0, len(payload)), label="place")
        match data.draw(st.sampled_from(["cut", "extend", "insert", "flip"]), label="how"):
            case "cut":
                payload = payload[:place]
            case "extend":
                payload += data.draw(st.binary(min_size=1, max_size=40))
            case "insert":
                payload = payload[:place] + data.draw(st.binary(max_size=9)) + payload[place:]
            case "flip" if payload:
                changed = bytearray(payload)
                changed[place % len(payload)] ^= data.draw(st.integers(1, 255))
                payload = bytes(changed)
    return payload


def array_bytes(value: Any) -> int:
    """The bytes of the arrays in a value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(array_bytes, [*value, *value.values()]))
    return sum(map(array_bytes, value)) if isinstance(value, list) else 0


@FUZZ
@given(VALUES)
def test_values_survive(value: Any) -> None:
    assert alike(wire.loads(wire.dumps(value)), value)


@FUZZ
@given(VALUES, st.data())
def test_damage_is_a_wire_error_or_another_value(value: Any, data: Any) -> None:
    payload = damaged(wire.dumps(value), data)
    # A decoded value is complete: no array is larger than the payload.
    assert array_bytes(loaded(payload)) <= len(payload)


@FUZZ
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_wire_error_or_a_value(payload: bytes, framed: bool) -> None:
    if framed:
        payload = len(payload).to_bytes(4, "big") + payload
    assert array_bytes(loaded(payload)) <= len(payload)


SIZES = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**20, 2**31, 2**40, 2**62])


@settings(FUZZ, max_examples=200)
@given(
    st.sampled_from(DTYPES),
    st.lists(SIZES, max_size=5),
    st.binary(max_size=40),
    st.sampled_from([0xDC, 0xDD, 0xDE, 0xDF, 0xC5, 0xC6, 0xC8, 0xC9, 0xDA, 0xDB]),
    st.binary(min_size=5, max_size=9),
)
def test_an_array_larger_than_its_payload_allocates_nothing(
    dtype: str, shape: list[int], raw: bytes, kind: int, length: bytes
) -> None:
    # An array, list, map, text or extension with a size in its header.
    array = msgpack.encode(msgpack.Ext(1, msgpack.encode([dtype, shape])))
    for document in (array, bytes([kind]) + length):
        payload = len(document).to_bytes(4, "big") + document
        payload += bytes(-len(payload) % 16) + raw
        tracemalloc.start()
        try:
            value = loaded(payload)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert array_bytes(value) <= len(raw)
        assert peak < 100_000


def answer(payload: bytes) -> None:
    """Decode a result as a client does: rows, or a BertqError."""
    try:
        result = decode(payload, "job-0")
    except BertqError as error:
        str(error)
    else:
        assert isinstance(result, ChunkResult)
        assert isinstance(result.rows, np.ndarray)
        assert result.rows.ndim >= 2
        assert array_bytes(result.rows) <= len(payload)


@FUZZ
@given(st.binary(max_size=300) | VALUES.map(wire.dumps))
def test_a_client_survives_any_payload(payload: bytes) -> None:
    answer(payload)


@settings(FUZZ, max_examples=300)
@given(METAS)
def test_a_client_survives_any_meta(meta: dict[str, Any]) -> None:
    answer(wire.dumps(meta))


@FUZZ
@given(hnp.arrays("<f4", st.tuples(st.integers(1, 4), st.integers(0, 4))), st.data())
def test_a_client_survives_a_damaged_result(rows: Any, data: Any) -> None:
    result = ChunkResult(rows, "f" * 64).to_wire()
    meta = {"status": "SUCCESS", "result": result, "traceback": None, "task_id": "job-0"}
    payload = wire.dumps(meta)
    back = decode(payload, "job-0")
    assert alike(back.rows, rows)
    answer(damaged(payload, data))
