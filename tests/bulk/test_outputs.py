"""Outputs: arrays and JSON lines, complete or not at all, which replace nothing by mistake."""

import errno
import fcntl
import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient, SparseRows
from bertq.errors import BadInputValue, OutputError, TruncationWarning
from bertq.protocol.encoding import PRECISIONS
from bertq.protocol.wire import ChunkResult
from bertq.state import worker_info
from bertq_client.files import formats, partial_file
from tests.bulk.conftest import Encode, Write, manifest, names, rows_kept, sentences
from tests.client.stub import Stub, info, rows
from tests.waiting import eventually

TEXTS = sentences(700)


def read_lines(path: Path) -> list[Any]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_json_lines(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, precision: Any
) -> None:
    dtype = PRECISIONS[precision]
    client.encode_file(corpus(TEXTS), tmp_path / "v.jsonl", precision=precision)
    documents = read_lines(tmp_path / "v.jsonl")
    assert [document["line"] for document in documents] == list(range(1, 701))
    found = np.array([document["vector"] for document in documents], dtype)
    np.testing.assert_array_equal(found, rows(TEXTS).astype(dtype))


def test_lines_of_skipped_blanks(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    client.encode_file(corpus(["", "a", "", "", "b"]), tmp_path / "v.jsonl", blank="skip")
    documents = read_lines(tmp_path / "v.jsonl")
    assert documents == [
        {"line": 2, "vector": rows(["a"])[0].tolist()},
        {"line": 5, "vector": rows(["b"])[0].tolist()},
    ]


def test_every_float_survives_as_text() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**32, 6000, np.uint32).view(np.float32)
    numbers[:4] = [1e-45, 3.4028235e38, 0.1, -0.0]
    for dtype, some in (("float32", numbers), ("float16", numbers.view(np.float16))):
        table = some.reshape(-1, 4)
        written = formats.JsonlFormat(dtype, (4,)).encode(table, range(len(table)))
        found = [json.loads(line)["vector"] for line in written.splitlines()]
        read = np.array([[np.nan if x is None else x for x in row] for row in found], dtype)
        finite = np.isfinite(table)
        np.testing.assert_array_equal(read[finite], table[finite])
        assert np.isnan(read[~finite]).all()


@pytest.mark.parametrize("precision", ["float16", "int8", "ubinary"])
def test_smaller_types(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, precision: Any
) -> None:
    client.encode_file(corpus(TEXTS), tmp_path / "v.npy", precision=precision)
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == PRECISIONS[precision]
    np.testing.assert_array_equal(found, rows(TEXTS).astype(found.dtype))


def test_sparse_rows(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "is_sparse", True)
    source, output = corpus(["", *TEXTS[:3], "", "a"]), tmp_path / "v.jsonl"
    assert client.encode_file(source, output, blank="zero", batch_size=2).rows == 6
    documents = read_lines(output)
    assert [document["line"] for document in documents] == [1, 2, 3, 4, 5, 6]
    found = [{int(key): value for key, value in line["vector"].items()} for line in documents]
    assert found == [
        {},
        *SparseRows.from_dense(rows(TEXTS[:3])),
        {},
        *SparseRows.from_dense(rows(["a"])),
    ]
    assert manifest(output)["is_sparse"] is True
    # A resumed run reads it from the manifest.
    output.rename(f"{output}.part")
    known = manifest(output)
    known["complete"] = False
    output.with_name("v.jsonl.json").write_text(json.dumps(known))
    assert client.encode_file(source, output, blank="zero", resume=True).kept == 6
    assert read_lines(output) == documents


def test_sparse_rows_need_jsonl(
    client: BertClient, stub: Stub, redis: Redis, corpus: Write, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stub, "is_sparse", True)
    with pytest.raises(OutputError, match=r"v\.npy: the model gives sparse rows, .* as \.jsonl"):
        client.encode_file(corpus(TEXTS), tmp_path / "v.npy")
    stub.options.clear()
    worker_info.publish(redis, replace(info(["bertq", "bertq.small"]), task="sparse"))
    with pytest.raises(OutputError, match="the model gives sparse rows"):
        client.encode_file(corpus(TEXTS), tmp_path / "v.npy")
    assert stub.options == []  # nothing was sent
    assert names(tmp_path) == ["corpus.txt"]


def test_a_client_of_lists(redis_url: str, stub: Stub, corpus: Write, tmp_path: Path) -> None:
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as client:
        client.encode_file(corpus(TEXTS), tmp_path / "v.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), rows(TEXTS))


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_token_vectors_are_as_long_as_the_model_reads(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, suffix: str,
) -> None:  # fmt: skip
    def made(texts: list[str]) -> Any:
        lengths = [len(text.split()) for text in texts]
        table = np.zeros((len(texts), max(lengths), 2), np.float32)
        for row, length in zip(table, lengths, strict=True):
            row[:length] = length
        return table

    def encode(request: Any, redis: Any, texts: list[str], options: Any) -> ChunkResult:
        return ChunkResult(made(texts), "f")

    monkeypatch.setattr(stub, "encode", encode)
    lines = ["one", "one two", "", *(f"{n} and more" for n in range(300))]
    output = tmp_path / f"v{suffix}"
    client.encode_file(corpus(lines), output, blank="zero", batch_size=100)
    expected = np.zeros((303, 25, 2), np.float32)  # max_seq_len of the stub
    there = [number for number, line in enumerate(lines) if line]
    expected[there, :3] = made([lines[number] for number in there])
    if suffix == ".npy":
        found = np.load(output)
        assert manifest(output)["row_shape"] == [25, 2]
    else:
        found = np.array([json.loads(line)["vector"] for line in output.read_text().splitlines()])
    np.testing.assert_array_equal(found, expected)


def test_sentences_that_are_cut(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    lines = ["w " * (30 if number % 10 == 0 else 3) + str(number) for number in range(200)]
    with pytest.warns(TruncationWarning, match=r"cut, 20 sentences of .*corpus\.txt") as caught:
        made = client.encode_file(corpus(lines), tmp_path / "v.npy", batch_size=64)
    assert made.cut == 20
    assert [warning.filename for warning in caught] == [__file__]


def test_the_bar_knows_the_total(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    client.encode_file(corpus(["", *TEXTS]), tmp_path / "v.npy", blank="zero", progress=True)
    assert "701/701" in capsys.readouterr().err
    client.encode_file(corpus(["", *TEXTS]), tmp_path / "w.npy", blank="skip", progress=True)
    assert "700/700" in capsys.readouterr().err


# -- what is no file


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", r"\. is a directory: name a file in it, such as vectors\.npy"),
        ("..", r"\.\. is a directory: name a file in it, such as \.\./vectors\.npy"),
        ("/", "/ is a directory"),
        ("folder.npy", "folder.npy is a directory"),
        ("missing/v.npy", "there is no directory missing"),
        ("corpus.txt/v.npy", "there is no directory corpus.txt|corpus.txt/v.npy cannot be written"),
        ("v.txt", r"v.txt: vectors are written as \.npy or \.jsonl"),
        ("v", r"v: vectors are written as \.npy or \.jsonl"),
        ("", "is a directory"),
        ("pipe.npy", "pipe.npy is a pipe, socket or device: vectors need a file"),
        ("full.npy", "full.npy is a pipe, socket or device: vectors need a file"),
        ("x" * 300 + ".npy", "cannot be written: File name too long"),
        ("busy.npy", "busy.npy.* cannot be written: Is a directory"),
        ("odd.npy", "odd.npy.json cannot be read: Is a directory"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_no_file(
    client: BertClient, corpus: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    output: str, message: str, overwrite: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(corpus(TEXTS).parent)
    for folder in ("folder.npy", "busy.npy.part", "odd.npy.json"):
        Path(folder).mkdir()
    os.mkfifo("pipe.npy")
    Path("full.npy").symlink_to("/dev/full")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=message):
        client.encode_file("corpus.txt", output, overwrite=overwrite)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("folder.txt", "folder.txt cannot be read: Is a directory"),
        (".", "cannot be read: Is a directory"),
        ("missing.txt", "missing.txt cannot be read: No such file or directory"),
        ("corpus.txt/x", "cannot be read: Not a directory"),
        ("x" * 300, "cannot be read: File name too long"),
        ("/dev/full", "/dev/full, line 1: it has more than"),
        ("/dev/null", "/dev/null has no line that is not blank"),
        ("plain.gz", "plain.gz cannot be read: Not a gzipped file"),
    ],
)
def test_no_input(
    client: BertClient, corpus: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    source: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(corpus(TEXTS).parent)
    Path("folder.txt").mkdir()
    Path("plain.gz").write_text("text\n")
    before = names(tmp_path)
    with pytest.raises(BadInputValue, match=message):
        client.encode_file(source, "v.npy")
    assert names(tmp_path) == before


def test_standard_input_is_closed(
    client: BertClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadInputValue, match="standard input is closed"):
        client.encode_file("-", tmp_path / "v.npy")


def test_a_pipe_as_the_input(client: BertClient, stub: Stub, corpus: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    text = corpus(TEXTS).read_text()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.txt").write_text(text))
    writer.start()
    client.encode_file(tmp_path / "pipe.txt", tmp_path / "v.npy")
    writer.join()
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), rows(TEXTS))


# -- existing files


def test_an_output_is_replaced_only_with_overwrite(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    output = tmp_path / "v.npy"
    output.write_bytes(b"precious")
    for options in ({}, {"resume": True}):
        with pytest.raises(OutputError, match=r"v\.npy exists already"):
            client.encode_file(corpus(TEXTS), output, **options)  # type: ignore[arg-type]
    assert output.read_bytes() == b"precious"
    assert names(tmp_path) == ["corpus.txt", "v.npy"]
    made = client.encode_file(corpus(TEXTS), output, overwrite=True)
    assert (made.kept, made.encoded) == (0, 700)
    np.testing.assert_array_equal(np.load(output), rows(TEXTS))


def test_the_old_output_stays_until_the_new_one_is_complete(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    output = tmp_path / "v.npy"
    client.encode_file(corpus(TEXTS), output)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        client.encode_file(
            corpus([*sentences(100), "!fail"]), output, overwrite=True, batch_size=50
        )
    np.testing.assert_array_equal(np.load(output), rows(TEXTS))


def test_a_partial_output_needs_resume_or_overwrite(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path
) -> None:
    output, growing = tmp_path / "v.npy", tmp_path / "v.npy.part"
    growing.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"v\.npy\.part exists, from a run that did not end"):
        client.encode_file(corpus(TEXTS), output)
    with pytest.raises(OutputError, match=r"v\.npy\.json, which says how it was made, does not"):
        client.encode_file(corpus(TEXTS), output, resume=True)
    assert growing.read_bytes() == b"precious"
    assert client.encode_file(corpus(TEXTS), output, overwrite=True).rows == 700
    assert names(tmp_path) == ["corpus.txt", "v.npy", "v.npy.json"]


@pytest.mark.parametrize("content", ["mine", "{}", "[]", '{"bertq_encode": 2}'])
def test_a_file_that_is_not_a_manifest_is_not_replaced(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, content: str
) -> None:
    foreign = tmp_path / "v.npy.json"
    foreign.write_text(content)
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match=r"v\.npy\.json .*written by"):
            client.encode_file(corpus(TEXTS), tmp_path / "v.npy", **options)  # type: ignore[arg-type]
    assert foreign.read_text() == content


def test_unknown_suffixes_of_the_output(client: BertClient, corpus: Write, tmp_path: Path) -> None:
    source = corpus(["{}"], "c.jsonl")
    (tmp_path / "d.npy").mkdir()
    for name, message in [
        ("v.txt", r"vectors are written as \.npy or \.jsonl"),
        ("v", "vectors are written as"),
        ("no/v.npy", "there is no directory .*no"),
        ("c.jsonl/v.npy", "there is no directory"),
        ("d.npy", "is a directory"),
        ("c.jsonl", "would be written over the input"),
        ("x/../c.jsonl", "there is no directory"),
    ]:
        with pytest.raises(OutputError, match=message):
            client.encode_file(source, tmp_path / name, overwrite=True)
    (tmp_path / "link.jsonl").symlink_to(source)
    with pytest.raises(OutputError, match="would be written over the input"):
        client.encode_file(source, tmp_path / "link.jsonl", overwrite=True)
    assert source.read_text() == "{}\n"


def test_two_processes(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path, encode: Encode
) -> None:
    source, output = corpus(TEXTS), tmp_path / "v.npy"
    stub.gate.clear()
    run = encode(source, "-o", output)
    eventually((tmp_path / "v.npy.part").exists, 30)
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match=r"v\.npy\.part is being written by another process"):
            client.encode_file(source, output, **options)  # type: ignore[arg-type]
    stub.gate.set()
    assert run.wait() == (0, f"{output}: 700 rows, kept 0, encoded 700\n")
    np.testing.assert_array_equal(np.load(output), rows(TEXTS))


def test_an_output_that_was_finished_during_the_wait_for_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing, output = tmp_path / "v.npy.part", tmp_path / "v.npy"
    growing.write_bytes(b"whole")
    flock = fcntl.flock

    def wait_for_lock(descriptor: int, operation: int) -> None:
        if not output.exists():
            growing.replace(output)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", wait_for_lock)
    opened = partial_file.PartialFile(growing)
    assert opened.size == 0
    opened.close()
    assert output.read_bytes() == b"whole"


# -- disks


class Disk:
    """``os`` for the partial output, on a disk that becomes full."""

    def __init__(self) -> None:
        self.free_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.free_bytes <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, data[: min(1000, self.free_bytes)])
        self.free_bytes -= written
        return written


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_a_disk_that_is_full(
    client: BertClient, stub: Stub, corpus: Write, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, suffix: str,
) -> None:  # fmt: skip
    disk, output, source = Disk(), tmp_path / f"v{suffix}", corpus(TEXTS)
    monkeypatch.setattr(partial_file, "os", disk)
    message = rf"v{suffix} cannot be written: No space left on device"
    with pytest.raises(OutputError, match=message):
        client.encode_file(source, output)
    assert names(tmp_path) == ["corpus.txt"]
    disk.free_bytes = 6000
    with pytest.raises(OutputError, match=message) as caught:
        client.encode_file(source, output, batch_size=64)
    kept = rows_kept(output)
    assert 64 <= kept < 700
    assert kept % 64 == 0
    assert caught.value.__notes__ == [
        f"{kept} rows are saved: run again with --resume (resume=True)"
    ]
    disk.free_bytes = 100_000
    made = client.encode_file(source, output, resume=True)
    assert (made.kept, made.encoded) == (kept, 700 - kept)
    monkeypatch.undo()
    whole = tmp_path / f"whole{suffix}"
    client.encode_file(source, whole)
    assert output.read_bytes() == whole.read_bytes()


def test_a_file_that_may_not_grow(
    stub: Stub, corpus: Write, tmp_path: Path, encode: Encode, redis_url: str
) -> None:
    import resource
    import subprocess

    from tests.cli.runs import BERTQ

    done = subprocess.run(
        [*BERTQ, "encode", corpus(TEXTS), "-o", "v.npy", "-q", "--batch-size", "100"],
        cwd=tmp_path,
        env=os.environ | {"BERTQ_REDIS_URL": redis_url},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: v.npy cannot be written: File too large\n"
        "300 rows are saved: run again with --resume\n"
    )


def test_a_name_that_is_too_long(client: BertClient, corpus: Write, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        client.encode_file(corpus(["a"]), tmp_path / f"{'v' * 250}.npy")
    with pytest.raises(BadInputValue, match="cannot be read: File name too long"):
        client.encode_file(tmp_path / ("c" * 300), tmp_path / "v.npy")
