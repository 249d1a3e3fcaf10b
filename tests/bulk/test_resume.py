"""Resuming: only missing rows are encoded, and only for the same input and options."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import (
    BertqError,
    ModelMismatch,
    OutputError,
    RedisUnavailable,
    RemoteError,
    SentenceTooLong,
    Timeout,
)
from tests.bulk.conftest import Write, manifest, names, rows_kept, sentences, wait_until_idle
from tests.bulk.test_sources import Stdin
from tests.client.stub import Stub, rows

TEXTS = sentences(1000)
FAILING = [*TEXTS[:650], "!fail", *TEXTS[651:]]


@pytest.fixture
def half(
    client: BertClient, stub: Stub, redis: Redis, corpus: Write, tmp_path: Path, monkeypatch: Any
) -> Path:
    """An output without its second half, because the worker has ended."""
    output = tmp_path / "v.npy"
    quick = stub.encode

    def encode(request: Any, redis: Any, texts: list[str], options: Any) -> Any:
        if any(text in TEXTS[650:] for text in texts):
            raise ZeroDivisionError("not now")
        return quick(request, redis, texts, options)

    with monkeypatch.context() as patch:
        patch.setattr(stub, "encode", encode)
        with pytest.raises(RemoteError):
            client.encode_file(corpus(TEXTS), output, batch_size=100)
    assert rows_kept(output) == 600
    wait_until_idle(redis)
    stub.chunks.clear()
    return output


def test_only_what_is_missing_is_encoded(
    client: BertClient, stub: Stub, corpus: Write, half: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"."):
        np.load(half.with_name("v.npy.part"))
    made = client.encode_file(corpus(TEXTS), half, resume=True)
    assert (made.rows, made.kept, made.encoded) == (1000, 600, 400)
    assert sum(stub.chunks) == 400
    np.testing.assert_array_equal(np.load(half), rows(TEXTS))
    assert names(tmp_path) == ["corpus.txt", "v.npy", "v.npy.json"]


def test_a_partial_output_can_be_read_during_the_run(half: Path) -> None:
    shape = (600, *manifest(half)["row_shape"])
    found = np.memmap(half.with_name("v.npy.part"), "<f4", "r", offset=128, shape=shape)
    np.testing.assert_array_equal(found, rows(TEXTS[:600]))


def test_the_error_of_a_batch_names_lines(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    lines = ["", *FAILING[640:]]
    with pytest.raises(RemoteError) as caught:
        client.encode_file(corpus(lines), tmp_path / "v.npy", blank="skip", batch_size=8)
    assert str(caught.value) == (
        "ZeroDivisionError: the stub was asked to fail (one of the sentences in "
        f"{tmp_path}/corpus.txt, lines 10, 11, 12, 13, 14, 15, 16, 17)"
    )
    assert caught.value.__notes__ == ["8 rows are saved: run again with --resume (resume=True)"]


def test_a_sentence_that_must_not_be_truncated(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    lines = [*TEXTS[:300], "w " * 30, "last"]
    with pytest.raises(SentenceTooLong) as caught:
        client.encode_file(corpus(lines), tmp_path / "v.npy", truncate="error", batch_size=100)
    assert str(caught.value).startswith(
        f"{tmp_path}/corpus.txt, line 301: more tokens than the 20 that are read"
    )
    assert rows_kept(tmp_path / "v.npy") == 300


def test_timeout_while_redis_is_unreachable(
    redis_url: str, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    stub.gate.clear()
    with BertClient(redis_url=redis_url, timeout=0.3) as client, pytest.raises(Timeout):
        client.encode_file(corpus(TEXTS), tmp_path / "v.npy")
    stub.gate.set()
    with (
        BertClient(redis_url="redis://127.0.0.1:1/0", timeout=0.5) as client,
        pytest.raises((Timeout, RedisUnavailable)),
    ):
        client.encode_file(corpus(TEXTS), tmp_path / "v.npy")
    assert names(tmp_path) == ["corpus.txt"]


def test_resuming_without_an_earlier_run(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    assert client.encode_file(corpus(TEXTS), tmp_path / "v.npy", resume=True).encoded == 1000


def test_resuming_a_complete_output(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    output, source = tmp_path / "v.npy", corpus([*TEXTS, ""])
    client.encode_file(source, output, blank="skip")
    before, asked = output.stat(), len(stub.chunks)
    made = client.encode_file(source, output, blank="skip", resume=True)
    assert (made.rows, made.kept, made.encoded) == (1000, 1000, 0)
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(stub.chunks) == asked
    with pytest.raises(OutputError, match="made with blank skip, not zero"):
        client.encode_file(source, output, blank="zero", resume=True)
    with BertClient(redis_url="redis://127.0.0.1:1/0") as away:
        assert away.encode_file(source, output, blank="skip", resume=True).encoded == 0
    output.unlink()  # then no rows are kept, and the manifest is useless
    assert client.encode_file(source, output, blank="skip", resume=True).encoded == 1000
    with output.open("ab") as file:
        file.write(b"x")
    with pytest.raises(OutputError, match="exists already"):
        client.encode_file(source, output, blank="skip", resume=True)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_killed_between_the_manifest_and_the_rename(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, suffix: str
) -> None:
    output, growing = tmp_path / f"v{suffix}", tmp_path / f"v{suffix}.part"
    client.encode_file(corpus(TEXTS), output)
    data, asked = output.read_bytes(), len(stub.chunks)
    output.rename(growing)
    assert client.encode_file(corpus(TEXTS), output, resume=True).kept == 1000
    assert output.read_bytes() == data
    assert len(stub.chunks) == asked
    assert not growing.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blank": "zero"}, "made with blank error, not zero"),
        ({"normalize": True}, "made with normalize None, not True"),
        ({"truncate": "left"}, "made with truncate right, not left"),
        ({"precision": "float16"}, "made with precision float32, not float16"),
        ({"pairs": True}, "made with pairs None, not True"),
        ({"prompt_name": "query"}, "made with prompt_name None, not query"),
        ({"prompt": "secret"}, r"made with another prompt: resume"),
        ({"input_type": "query"}, "made with input_type None, not query"),
        ({"dimensions": 3}, "made with dimensions None, not 3"),
        ({"is_tokenized": True}, "made with is_tokenized False, not True"),
        ({"input_format": "jsonl"}, "made with input_format text, not jsonl|not JSON"),
    ],
)
def test_other_options_are_refused(
    client: BertClient, corpus: Write, half: Path, options: dict[str, Any], message: str
) -> None:
    before = half.with_name("v.npy.part").read_bytes()
    with pytest.raises(BertqError, match=message):
        client.encode_file(corpus(TEXTS), half, resume=True, **options)
    assert half.with_name("v.npy.part").read_bytes() == before
    assert rows_kept(half) == 600


def test_a_prompt_is_compared_and_not_stored(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    source, output = corpus(["a"]), tmp_path / "v.npy"
    client.encode_file(source, output, prompt="secret: ")
    assert "secret" not in output.with_name("v.npy.json").read_text()
    assert client.encode_file(source, output, prompt="secret: ", resume=True).encoded == 0
    with pytest.raises(OutputError, match="made with another prompt") as caught:
        client.encode_file(source, output, prompt="other: ", resume=True)
    assert "secret" not in str(caught.value)


def test_another_field_is_refused(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    source = corpus(['{"a": "1", "b": "2"}'], "c.jsonl")
    client.encode_file(source, tmp_path / "v.npy", field="a")
    with pytest.raises(OutputError, match="made with field a, not b"):
        client.encode_file(source, tmp_path / "v.npy", field="b", resume=True)


@pytest.mark.parametrize("line", [5, 999])
def test_another_input_is_refused(client: BertClient, corpus: Write, half: Path, line: int) -> None:
    lines = [*TEXTS[:line], "another", *TEXTS[line + 1 :]]
    with pytest.raises(OutputError, match="another input, or the input has changed"):
        client.encode_file(corpus(lines), half, resume=True)
    moved = corpus(TEXTS, "moved.txt")  # its name does not matter
    assert client.encode_file(moved, half, resume=True).kept == 600


def test_another_model_is_refused(
    client: BertClient, stub: Stub, corpus: Write, half: Path
) -> None:
    stub.fingerprints = ["other"]
    with pytest.raises(ModelMismatch, match=r"begun with model f, and the workers have .* other"):
        client.encode_file(corpus(TEXTS), half, resume=True)
    assert rows_kept(half) == 600
    stub.fingerprints = ["f"]
    assert client.encode_file(corpus(TEXTS), half, resume=True).kept == 600
    np.testing.assert_array_equal(np.load(half), rows(TEXTS))


def test_another_model_is_refused_before_anything_is_sent(
    client: BertClient, stub: Stub, corpus: Write, half: Path
) -> None:
    path = half.with_name("v.npy.json")
    path.write_text(path.read_text().replace('"fingerprint": "f"', '"fingerprint": "e"'))
    asked = len(stub.chunks)
    with pytest.raises(ModelMismatch, match="begun with model e, and the workers have model f"):
        client.encode_file(corpus(TEXTS), half, resume=True)
    assert len(stub.chunks) == asked


def test_another_model_in_the_middle(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, monkeypatch: Any
) -> None:
    quick = stub.encode

    def encode(request: Any, redis: Any, texts: list[str], options: Any) -> Any:
        stub.fingerprints = ["f" if texts[0] in TEXTS[:500] else "g"]
        return quick(request, redis, texts, options)

    monkeypatch.setattr(stub, "encode", encode)
    with pytest.raises(ModelMismatch, match="begun with model f, and the workers have model g"):
        client.encode_file(corpus(TEXTS), tmp_path / "v.npy", batch_size=100)
    assert rows_kept(tmp_path / "v.npy") == 500


def test_damage_is_refused(client: BertClient, corpus: Write, half: Path) -> None:
    growing = half.with_name("v.npy.part")
    growing.write_bytes(growing.read_bytes()[:1000])
    with pytest.raises(OutputError, match=r"is shorter than v\.npy\.json says"):
        client.encode_file(corpus(TEXTS), half, resume=True)


def test_resuming_from_standard_input(
    client: BertClient, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "v.jsonl"
    lines = ["", *TEXTS[:400], "", "", *TEXTS[400:]]

    def run(given: list[str]) -> tuple[int, int]:
        monkeypatch.setattr(sys, "stdin", Stdin(given))
        made = client.encode_file("-", output, blank="zero", batch_size=100, resume=True)
        return made.kept, made.encoded

    with pytest.raises(RemoteError, match="standard input, lines 604, 605"):
        run([*lines[:680], "!fail", *lines[681:]])
    assert rows_kept(output) == 603
    for other in ([], lines[:500], lines[1:], ["x", *lines[1:]], [*lines[:401], *lines[402:]]):
        with pytest.raises(OutputError, match="other sentences than standard input has now"):
            run(other)
    assert run(lines) == (603, 400)
    whole = output.read_bytes()
    assert run(lines) == (1003, 0)
    with pytest.raises(OutputError, match="is complete, and standard input has more lines"):
        run([*lines, "more"])
    output.unlink()
    assert run(lines) == (0, 1003)
    assert output.read_bytes() == whole
