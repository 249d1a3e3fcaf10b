"""The types of the client's results, for type checkers: mypy checks this file with the others."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from bertq import BertClient

Tokens = list[list[str]]


def arrays(client: BertClient[NDArray[Any]]) -> None:
    """The types of arrays."""
    assert_type(client.encode(["a"]), NDArray[Any])
    assert_type(client.encode(("a", "b")), NDArray[Any])
    assert_type(client.encode(np.array(["a"])), NDArray[Any])
    assert_type(client.encode([("a", "b")]), NDArray[Any])
    assert_type(client.encode([["a", "token"]], is_tokenized=True), NDArray[Any])
    assert_type(client.encode(["a"], progress=True, normalize=True), NDArray[Any])
    assert_type(client.encode(["a"], show_tokens=True), tuple[NDArray[Any], Tokens])
    assert_type(client.encode([["a"]], True, True, True), tuple[NDArray[Any], Tokens])
    assert_type(client.encode(["a"], blocking=False), int)
    assert_type(client.encode_query(["a"]), NDArray[Any])
    assert_type(client.encode_document(["a"], show_tokens=True), tuple[NDArray[Any], Tokens])


def lists(client: BertClient[list[Any]]) -> None:
    """The types of nested lists."""
    assert_type(client.encode(["a"]), list[Any])
    assert_type(client.encode(["a"], show_tokens=True), tuple[list[Any], Tokens])
    assert_type(client.encode(["a"], blocking=False), int)


def clients(any_client: BertClient) -> None:
    """The arguments of a client decide about its results."""
    assert_type(BertClient(), BertClient[NDArray[Any]])
    assert_type(BertClient("127.0.0.1", 6379, timeout=5), BertClient[NDArray[Any]])
    assert_type(BertClient(output_fmt="ndarray"), BertClient[NDArray[Any]])
    assert_type(BertClient(output_fmt="list", timeout=5), BertClient[list[Any]])
    with BertClient() as client:
        assert_type(client.encode(["a"]), NDArray[Any])
    any_client.encode(["a"]).anything()


def mistakes(client: BertClient[NDArray[Any]]) -> None:
    """Calls that a type checker refuses."""
    client.encode("a sentence")  # type: ignore[call-overload]
    client.encode([1, 2])  # type: ignore[arg-type]
    client.encode(["a"], precision="float8")  # type: ignore[call-overload]
    client.encode(["a"], progress=True, blocking=False)
