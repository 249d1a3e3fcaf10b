"""Inputs: text, JSON lines, compressed or not, from files and from pipes."""

import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq import BertClient
from bertq.errors import BadInputType, BadInputValue
from tests.bulk.conftest import Write, names, sentences
from tests.client.stub import Stub, rows

TEXTS = sentences(700)


def loaded(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def test_a_text_file(client: BertClient, stub: Stub, corpus: Write, tmp_path: Path) -> None:
    output = tmp_path / "v.npy"
    made = client.encode_file(corpus(TEXTS), output)
    assert (made.path, made.rows, made.kept, made.encoded, made.cut) == (output, 700, 0, 700, 0)
    np.testing.assert_array_equal(loaded(output), rows(TEXTS))
    assert names(tmp_path) == ["corpus.txt", "v.npy", "v.npy.json"]


@pytest.mark.parametrize("name", ["c", "c.csv", "c.txt.gz", "c.jsonl", "c.ndjson", "c.jsonl.gz"])
def test_formats_by_the_name(client: BertClient, stub: Stub, tmp_path: Path, name: str) -> None:
    source, output = tmp_path / name, tmp_path / "v.npy"
    lines = [json.dumps({"id": 1, "text": text}) for text in TEXTS] if "son" in name else TEXTS
    data = "\n".join(lines).encode()  # without a line's end at the end
    source.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert client.encode_file(str(source), str(output)).rows == 700
    np.testing.assert_array_equal(loaded(output), rows(TEXTS))


def test_lines_are_those_of_the_file(client: BertClient, stub: Stub, tmp_path: Path) -> None:
    source, output = tmp_path / "c.txt", tmp_path / "v.npy"
    source.write_bytes("\ufeffa\r\n b\rc\x0cd\u2028e \nä".encode())
    assert client.encode_file(source, output).rows == 3
    np.testing.assert_array_equal(loaded(output), rows(["a", " b\rc\x0cd\u2028e ", "ä"]))


def test_another_field_and_format(client: BertClient, stub: Stub, tmp_path: Path) -> None:
    source, output = tmp_path / "c.log", tmp_path / "v.npy"
    source.write_text('{"q": "one\\ntwo", "text": 7}\n{"q": "three"}\n')
    client.encode_file(source, output, input_format="jsonl", field="q")
    np.testing.assert_array_equal(loaded(output), rows(["one\ntwo", "three"]))


@pytest.mark.parametrize("name", ["c.txt", "c.jsonl"])
def test_tokens(client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, name: str) -> None:
    lines = ["first one", "  second  sentence "]
    if name == "c.jsonl":
        lines = [json.dumps({"text": line.split()}) for line in lines]
    client.encode_file(corpus(lines, name), tmp_path / "v.npy", is_tokenized=True)
    expected = rows(["first one", "second sentence"])
    np.testing.assert_array_equal(loaded(tmp_path / "v.npy"), expected)
    assert {"is_tokenized": True} in stub.options


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_blank_lines(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, kind: str
) -> None:
    texts = ["", "one", " \t", "", "two", *sentences(300), "", "last", "", ""]
    lines = [json.dumps({"text": text}) for text in texts] if kind == "jsonl" else texts
    name = f"c.{kind}"
    zero, skip = tmp_path / "zero.npy", tmp_path / "skip.npy"
    with pytest.raises(BadInputValue, match=rf"{name}, line 1: it is blank"):
        client.encode_file(corpus(lines, name), zero)
    assert stub.chunks == []
    made = client.encode_file(corpus(lines, name), zero, blank="zero", batch_size=50)
    assert (made.rows, made.encoded) == (309, 309)
    there = [number for number, text in enumerate(texts) if text.strip()]
    some = rows([texts[number] for number in there])
    expected = np.zeros((309, 4), np.float32)
    expected[there] = some
    np.testing.assert_array_equal(loaded(zero), expected)
    assert client.encode_file(corpus(lines, name), skip, blank="skip").rows == 303
    np.testing.assert_array_equal(loaded(skip), some)


def test_many_blank_lines_are_written_in_pieces(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertq_client.files.row_formatter.MAX_BLOCK_BYTES", 160)  # ten rows
    lines = ["a", *[""] * 95, "b", *sentences(40)]
    for suffix in (".npy", ".jsonl"):
        client.encode_file(corpus(lines), tmp_path / f"v{suffix}", blank="zero")
    found = loaded(tmp_path / "v.npy")
    assert found.shape == (137, 4)
    assert not found[1:96].any()
    np.testing.assert_array_equal(found[96:], rows(lines[96:]))
    documents = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [document["line"] for document in documents] == list(range(1, 138))
    np.testing.assert_array_equal([document["vector"] for document in documents], found)


BAD = [
    ("c.txt", b"\xff", "it is not UTF-8"),
    ("c.txt", b" \n", "it is blank"),
    ("c.jsonl", b"text", "it is not JSON"),
    ("c.jsonl", b"[" * 100_000, "it is not JSON"),
    ("c.jsonl", b"[]", "it is not a JSON object"),
    ("c.jsonl", b'{"txt": "secret"}', "there is no field 'text'"),
    ("c.jsonl", b'{"text": null}', "field 'text' is not a str"),
    ("c.jsonl", b'{"text": ["secret"]}', "field 'text' is not a pair, a list of two str"),
    ("c.jsonl", b'{"text": ["secret", 1]}', "field 'text' is not a pair, a list of two str"),
    ("c.jsonl", b'{"text": ["secret", " "]}', "field 'text' is a pair with a blank side"),
    ("c.jsonl", b'{"text": " "}', "it is blank"),
]


@pytest.mark.parametrize(("name", "line", "what"), BAD)
def test_bad_lines_are_found_first(
    client: BertClient, stub: Stub, tmp_path: Path, name: str, line: bytes, what: str
) -> None:
    good = [f'{{"text": "{text}"}}' if name == "c.jsonl" else text for text in sentences(3000)]
    source = tmp_path / name
    source.write_bytes("".join(f"{text}\n" for text in good).encode() + line + b"\nmore\n")
    with pytest.raises(BadInputValue, match=f"{name}, line 3001: {what}") as caught:
        client.encode_file(source, tmp_path / "v.npy")
    assert "secret" not in str(caught.value)
    assert stub.chunks == []
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "a b"}', "is not a list of str"),
        ('{"text": ["a", 1]}', "is not a list of str"),
        ('{"text": ["a", " "]}', "has a token that is blank"),
        ('{"text": []}', "it is blank"),
    ],
)
def test_bad_tokens(
    client: BertClient, corpus: Write, tmp_path: Path, line: str, what: str
) -> None:
    with pytest.raises(BadInputValue, match=f"line 1: .*{what}"):
        client.encode_file(corpus([line], "c.jsonl"), tmp_path / "v.npy", is_tokenized=True)


def test_far_too_long_lines(client: BertClient, corpus: Write, tmp_path: Path) -> None:
    with pytest.raises(BadInputValue, match="line 1: a sentence has at most 10485760 characters"):
        client.encode_file(corpus(["a" * 10485761]), tmp_path / "v.npy")
    with pytest.raises(BadInputValue, match="line 2: it has more than 67108864 bytes"):
        client.encode_file(corpus(["a", "b" * 67108864]), tmp_path / "v.npy")


def test_nothing_to_encode(client: BertClient, stub: Stub, corpus: Write, tmp_path: Path) -> None:
    for lines in ([], ["", " "]):
        for output in ("v.npy", "v.jsonl"):
            with pytest.raises(BadInputValue, match=r"corpus\.txt has no line that is not blank"):
                client.encode_file(corpus(lines), tmp_path / output, blank="zero")
    assert names(tmp_path) == ["corpus.txt"]


def test_files_that_cannot_be_read(client: BertClient, tmp_path: Path) -> None:
    with pytest.raises(BadInputValue, match=r"no\.txt cannot be read: No such file"):
        client.encode_file(tmp_path / "no.txt", tmp_path / "v.npy")
    with pytest.raises(BadInputValue, match="cannot be read: Is a directory"):
        client.encode_file(tmp_path, tmp_path / "v.npy")
    whole = gzip.compress(b"one\n" * 10_000)
    for data in (whole[:-20], b"no gzip", whole[:40] + b"\xff" * 20 + whole[60:]):
        (tmp_path / "c.gz").write_bytes(data)
        with pytest.raises(BadInputValue, match=r"c\.gz cannot be read"):
            client.encode_file(tmp_path / "c.gz", tmp_path / "v.npy")
    assert names(tmp_path) == ["c.gz"]


class Stdin:
    """Standard input with some bytes."""

    def __init__(self, lines: list[str]) -> None:
        self.buffer = io.BytesIO("".join(f"{line}\n" for line in lines).encode())


def test_standard_input(
    client: BertClient, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(TEXTS))
    assert client.encode_file("-", tmp_path / "v.npy").rows == 700
    np.testing.assert_array_equal(loaded(tmp_path / "v.npy"), rows(TEXTS))
    monkeypatch.setattr(sys, "stdin", Stdin(['{"text": "one"}']))
    client.encode_file("-", tmp_path / "w.npy", input_format="jsonl")
    np.testing.assert_array_equal(loaded(tmp_path / "w.npy"), rows(["one"]))
    monkeypatch.setattr(sys, "stdin", Stdin([""]))
    with pytest.raises(BadInputValue, match="standard input has no line that is not blank"):
        client.encode_file("-", tmp_path / "x.npy", blank="zero")


def test_rows_before_a_bad_line_of_standard_input_are_kept(
    client: BertClient, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin([*TEXTS, "", *TEXTS]))
    with pytest.raises(BadInputValue, match="standard input, line 701: it is blank") as caught:
        client.encode_file("-", tmp_path / "v.npy", batch_size=64)
    assert caught.value.__notes__ == ["700 rows are saved: run again with --resume (resume=True)"]
    monkeypatch.setattr(sys, "stdin", Stdin([*TEXTS, "better", *TEXTS]))
    made = client.encode_file("-", tmp_path / "v.npy", resume=True)
    assert (made.kept, made.encoded) == (700, 701)
    np.testing.assert_array_equal(loaded(tmp_path / "v.npy"), rows([*TEXTS, "better", *TEXTS]))


def test_a_named_pipe(client: BertClient, stub: Stub, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("\n".join(TEXTS)))
    writer.start()
    assert client.encode_file(pipe, tmp_path / "v.npy").rows == 700
    writer.join()
    np.testing.assert_array_equal(loaded(tmp_path / "v.npy"), rows(TEXTS))


def test_a_file_that_changes_during_the_run(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    source = corpus(sentences(20_000))

    def change() -> None:
        corpus(["new"] * 20_000)
        stub.gate.set()

    stub.gate.clear()
    thread = threading.Timer(0.3, change)
    thread.start()
    with pytest.raises(BadInputValue, match=r"corpus\.txt changed while it was read"):
        client.encode_file(source, tmp_path / "v.npy", batch_size=100)
    thread.join()
    assert not (tmp_path / "v.npy").exists()


def test_lines_may_have_pairs(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    source = corpus(
        ['{"text": ["a", "b c"]}', '{"text": "a b"}', '{"text": ["a", "d"]}'], "c.jsonl"
    )
    client.encode_file(source, tmp_path / "v.npy")
    np.testing.assert_array_equal(loaded(tmp_path / "v.npy"), rows(["a b c", "a b", "a d"]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"blank": "no"}, BadInputValue, "blank must be one of 'error', 'zero', 'skip'"),
        ({"input_format": "xml"}, BadInputValue, "input_format must be one of 'text', 'jsonl'"),
        ({"field": 7}, BadInputType, "field must be a str"),
        ({"field": "title"}, BadInputValue, "field is 'title', and the input is text: only .jsonl"),
        ({"resume": 1}, BadInputValue, "resume must be True or False"),
        ({"resume": True, "overwrite": True}, BadInputValue, "choose one"),
        ({"precision": "int4"}, BadInputValue, "precision must be one of"),
        ({"dtype": "float16"}, BadInputType, "there is no option dtype"),
        ({"batch_size": 0}, BadInputValue, "batch_size is 0"),
    ],
)
def test_wrong_arguments(
    client: BertClient, corpus: Write, tmp_path: Path,
    options: dict[str, Any], error: type[Exception], message: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        client.encode_file(corpus(["a"]), tmp_path / "v.npy", **options)
    assert names(tmp_path) == ["corpus.txt"]
