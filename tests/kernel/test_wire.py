"""The wire format: values survive it, and hostile bytes are refused."""

import base64
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kombu import serialization
from kombu.exceptions import ContentDisallowed
from msgspec import msgpack
from numpy.typing import NDArray

from bertq.config import celery_config
from bertq.errors import VersionMismatch, WireError
from bertq.protocol import versions, wire
from bertq.protocol.versions import WIRE_VERSION
from bertq.protocol.wire import ChunkResult

ARRAYS = hnp.arrays(
    dtype=st.sampled_from(["<f4", "<f2", "<f8", "<i4", "<i8", "|u1", ">f4"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    elements=st.integers(0, 100),
)


def payload_of(document: bytes, behind: bytes = b"") -> bytes:
    """A payload with any document and anything behind it."""
    whole = struct.pack(">I", len(document)) + document
    return whole + (bytes(-len(whole) % 16) + behind if behind else b"")


def array_payload(dtype: Any, shape: Any, raw: bytes) -> bytes:
    """A payload whose array has a header of the test's choice."""
    return payload_of(msgpack.encode(msgpack.Ext(1, msgpack.encode([dtype, shape]))), raw)


@given(ARRAYS)
def test_arrays_survive(array: NDArray[Any]) -> None:
    back = wire.loads(wire.dumps({"rows": array}))["rows"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_an_array_that_is_not_contiguous_survives() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(wire.loads(wire.dumps(array)), array)


def test_arrays_are_read_where_they_are() -> None:
    arrays = [np.arange(5, dtype=np.uint8), np.ones((3, 2)), np.zeros((0, 7), np.float32)]
    payload = wire.dumps({"arrays": arrays, "more": np.array([1.5], "<f4")})
    value = wire.loads(payload)
    expected = [*arrays, np.array([1.5])]
    for array, back in zip(expected, [*value["arrays"], value["more"]], strict=True):
        np.testing.assert_array_equal(back, array)
        assert back.flags.aligned
        if back.size:
            assert np.shares_memory(back, np.frombuffer(payload, np.uint8))
            assert not back.flags.writeable


@given(st.integers(0, 400), st.binary(max_size=3))
def test_a_cut_payload_is_a_wire_error_or_a_plain_value(cut: int, tail: bytes) -> None:
    payload = wire.dumps({"status": "SUCCESS", "rows": np.ones((4, 8), np.float32), "id": "abc"})
    damaged = payload[: min(cut, len(payload) - 1)] + tail
    try:
        value = wire.loads(damaged)
    except WireError:
        return
    # A decoded value must be consistent: no array has fewer bytes than its header says.
    assert not isinstance(value, np.ndarray)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(payload: bytes) -> None:
    try:
        value = wire.loads(payload)
    except WireError:
        value = None
    assert not isinstance(value, np.ndarray)


@pytest.mark.parametrize(
    ("dtype", "shape", "raw", "reason"),
    [
        ("<f4", [2, 2], b"\0" * 15, "should have 16 bytes and has 15"),
        ("<f4", [2, 2], b"\0" * 17, "payload of 33 bytes should have 32"),
        ("<f4", [2**40, 2**40], b"", "should have"),
        ("<f4", [2**62, 4], b"", "should have"),
        ("<f4", [0, 2**62, 4], b"", "decoded"),
        ("|O", [1], b"\0" * 8, r"matching regex .*\$\[0\]"),
        ("|V4", [1], b"\0" * 4, r"matching regex .*\$\[0\]"),
        ("<M8", [1], b"\0" * 8, r"matching regex .*\$\[0\]"),
        ("|S4", [1], b"abcd", r"matching regex .*\$\[0\]"),
        ("f4,i4", [1], b"\0" * 8, r"matching regex .*\$\[0\]"),
        ("<f1", [1], b"\0", r"matching regex .*\$\[0\]"),
        (7, [1], b"\0" * 4, "Expected `str`"),
        ("<f4", [-1, -1], b"\0" * 4, r"- at `\$\[1\]"),
        ("<f4", [1.5], b"\0" * 4, r"- at `\$\[1\]"),
        ("<f4", [True], b"\0" * 4, r"- at `\$\[1\]"),
        ("<f4", [1] * 33, b"\0" * 4, r"- at `\$\[1\]"),
        ("<f4", "11", b"\0" * 4, r"- at `\$\[1\]"),
    ],
)
def test_an_array_with_a_wrong_size_is_refused(
    dtype: Any, shape: Any, raw: bytes, reason: str
) -> None:
    with pytest.raises(WireError, match=reason):
        wire.loads(array_payload(dtype, shape, raw))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        struct.pack(">I", 2**32 - 1) + b"\xc0",  # a document of four gigabytes
        payload_of(b""),
        payload_of(b"\xc1"),
        payload_of(struct.pack(">BI", 0xDD, 2**32 - 1)),  # an array of four billion items
        payload_of(struct.pack(">BI", 0xC6, 2**32 - 1)),  # four gigabytes of bytes
        payload_of(struct.pack(">BIb", 0xC9, 2**31, 1)),  # an extension of two gigabytes
        payload_of(b"\x91" * 100_000),  # nested too deeply
        wire.dumps(1) + b"\0",  # something behind the end
        payload_of(msgpack.encode(1) + b"\0"),
        payload_of(msgpack.encode(msgpack.Ext(1, b""))),
        payload_of(msgpack.encode(msgpack.Ext(1, b"\x93\xa3<f4"))),
        payload_of(msgpack.encode(msgpack.Ext(5, b"x"))),
        msgpack.encode(msgpack.Ext(5, b"x")),
        payload_of(msgpack.encode({1: b"\xff"}) + b"\x80"),
        pickle.dumps({"rows": 1}),
    ],
)
def test_a_damaged_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        wire.loads(payload)


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["a"]), {"a": [1j]}])
def test_only_plain_values_and_numbers_are_sent(value: Any) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        wire.dumps(value)


def test_kombu_knows_the_serializer_and_refuses_pickle() -> None:
    assert celery_config.configuration("redis://h/0")["result_serializer"] == "bertq"
    content_type, encoding, payload = serialization.dumps({"a": 1}, serializer="bertq")
    assert (content_type, encoding) == ("application/x-bertq", "binary")
    accept = {"application/x-bertq", "application/json"}
    assert serialization.loads(payload, content_type, encoding, accept=accept) == {"a": 1}
    with pytest.raises(ContentDisallowed):
        serialization.loads(pickle.dumps(1), "application/x-python-serialize", "binary", accept)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"rows": [[1.0]], "fingerprint": "f"},
        {"rows": np.ones(3, np.float32), "fingerprint": "f"},
        {"rows": np.ones((3, 1), np.float32)},
        {"rows": np.ones((3, 1), np.float32), "fingerprint": 3},
        *(
            {"rows": np.ones((2, 1), np.float32), "fingerprint": "f", **more}
            for more in (
                {"tokens": [["a"]]},
                {"tokens": [["a"], "b"]},
                {"tokens": [["a"], [1]]},
                {"tokens": {"a": 1}},
                {"cut": [2]},
                {"cut": [-1]},
                {"cut": [True]},
                {"cut": 1},
                {"cut": [0], "max_seq_len": "25"},
                {"lengths": [1]},
                {"lengths": [1, -1]},
                {"lengths": [1, 2**31]},
                {3: 4},
            )
        ),
    ],
)
def test_a_result_of_another_form_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="a result "):
        ChunkResult.from_wire({"wire": WIRE_VERSION, **value})


@pytest.mark.parametrize("value", [None, [], 1, "rows"])
def test_a_result_is_a_map(value: Any) -> None:
    with pytest.raises(WireError, match="a result must be a map"):
        ChunkResult.from_wire(value)


def test_a_result_goes_through() -> None:
    result = ChunkResult(np.full((2, 3), 0.5, np.float32), "f")
    back = ChunkResult.from_wire(wire.loads(wire.dumps(result.to_wire())))
    assert back.fingerprint == "f"
    np.testing.assert_array_equal(back.rows, result.rows)
    assert (back.tokens, back.cut, back.max_seq_len) == (None, [], 0)


def test_the_bytes_are_those_of_the_first_version() -> None:
    """The payload was written with the package msgpack, which bertq used before msgspec."""
    value: dict[str, Any] = {
        "wire": 3, "rows": np.array([[1, 2], [3, 4]], "<f4"), "fingerprint": "f" * 33,
        "tokens": [["\u00e9", "##s"], []], "cut": [1], "max_seq_len": 300,
        "more": [None, True, -1, 2**40, 1.5, b"x"],
    }  # fmt: skip
    payload = base64.b64decode(
        "AAAAiYekd2lyZQOkcm93c9cBkqM8ZjSSAgKrZmluZ2VycHJpbnTZIWZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZ"
        "mZmZmZmZqZ0b2tlbnOSkqLDqaMjI3OQo2N1dJEBq21heF9zZXFfbGVuzQEspG1vcmWWwMP/zwAAAQAAAAAAyz/4AA"
        "AAAAAAxAF4AAAAAACAPwAAAEAAAEBAAACAQA=="
    )
    assert wire.dumps(value) == payload
    found = wire.loads(payload)
    np.testing.assert_array_equal(found.pop("rows"), value.pop("rows"))
    assert found == value


def test_wordpieces_and_what_was_cut_go_through() -> None:
    result = ChunkResult(np.ones((2, 3), np.float16), "f", [["a", "é"], []], [1], 25)
    back = ChunkResult.from_wire(wire.loads(wire.dumps(result.to_wire())))
    assert back.rows.dtype == np.float16
    assert (back.tokens, back.cut, back.max_seq_len) == ([["a", "é"], []], [1], 25)
    assert "max_seq_len" not in ChunkResult(result.rows, "f", max_seq_len=25).to_wire()


@pytest.mark.parametrize("version", [None, 0, WIRE_VERSION + 1, True, 1.0, "1", [1]])
def test_another_version_is_refused_whatever_the_rest_is(version: Any) -> None:
    with pytest.raises(VersionMismatch, match=r"install the same version of bertq on both$"):
        ChunkResult.from_wire({"wire": version, "something": "else"})
    with pytest.raises(VersionMismatch, match=f"this worker {WIRE_VERSION}: "):
        versions.check(version, sender="client", receiver="worker")


def test_a_result_shows_its_shape_and_no_vector() -> None:
    result = ChunkResult(np.full((2, 3), 0.123, np.float32), "f")
    assert repr(result) == "<rows 2 x 3, float32>"
