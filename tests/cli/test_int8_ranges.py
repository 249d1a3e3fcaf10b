"""``bertq int8-ranges``: the file that it writes, and refused options."""

import dataclasses
import gzip
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import BadInputValue, ModelMismatch, OutputError, RemoteError
from bertq.state import worker_info
from bertq_cli.commands.int8_ranges import Ranges, int8_ranges
from tests.cli.runs import Run, invoke
from tests.client.stub import Stub, info, rows, stub_worker
from tests.conftest import StartWorker
from tests.waiting import eventually


@pytest.fixture
def stub(redis_url: str) -> Iterator[Stub]:
    """A running stub worker on the test's database."""
    with stub_worker(redis_url) as running:
        yield running


def run(url: str, *arguments: object) -> str:
    return invoke(int8_ranges, *arguments, "--redis-url", url, "-q")


def texts(count: int) -> list[str]:
    return [f"{number} {'w' * (number % 7)}." for number in range(count)]


def test_the_ranges_of_a_corpus(stub: Stub, redis_url: str, tmp_path: Path) -> None:
    corpus, output = tmp_path / "corpus.txt.gz", tmp_path / "ranges.json"
    with gzip.open(corpus, "wt") as file:
        file.write("\n\n".join(texts(3000)))
    output_text = run(redis_url, corpus, "-o", output)
    assert output_text == f"{output}: ranges of 4 dimensions, from 3000 vectors\n"
    document = json.loads(output.read_text())
    assert (document["model"], document["rows"]) == ("f", 3000)
    vectors = rows(texts(3000))
    found = np.array(document["ranges"], np.float32)
    np.testing.assert_array_equal(found, [vectors.min(axis=0), vectors.max(axis=0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt.gz", "ranges.json"]
    with pytest.raises(OutputError, match=r"already exists: .* add --overwrite"):
        run(redis_url, corpus, "-o", output)
    few = tmp_path / "few.jsonl"
    few.write_text('{"title": "a"}\n\n{"title": "b"}\n')
    output_text = run(redis_url, few, "-o", output, "--overwrite", "--field", "title")
    assert "only 2 texts: ranges of 1,000 or more are better" in output_text
    assert json.loads(output.read_text())["rows"] == 2


def test_options_of_the_vectors(stub: Stub, redis_url: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a\n")
    options = ("--dimensions", "3", "--input-type", "document")
    run(redis_url, corpus, "-o", tmp_path / "ranges.json", *options)
    assert stub.options == [{"dimensions": 3, "input_type": "document"}]


def test_a_worker_with_the_ranges(
    redis_url: str, tmp_path: Path, tiny_model: Path, start_worker: StartWorker
) -> None:
    corpus, output = tmp_path / "corpus.txt", tmp_path / "ranges.json"
    lines = [f"the lord of the house {number} shall not" for number in range(300)]
    corpus.write_text("\n".join(lines))
    before = start_worker(redis_url, tiny_model, "-Q", "cpu0", "--threads", "1").wait_ready()
    run(redis_url, corpus, "-o", output)
    with BertClient(redis_url=redis_url, timeout=60) as client:
        exact = client.encode(lines)
        with pytest.raises(RemoteError, match="--int8-ranges"):
            client.encode(lines, precision="int8")
    document = json.loads(output.read_text())
    assert before.stop() == 0
    options = ("-Q", "cpu0", "--threads", "1", "--int8-ranges", str(output))
    start_worker(redis_url, tiny_model, *options).wait_ready()
    with BertClient(redis_url=redis_url, timeout=60) as client:
        (config,) = client.server_config.values()
        small = client.encode(lines, precision="uint8")
    assert config["fingerprint"] != document["model"]
    low, high = np.array(document["ranges"], np.float32)
    assert small.dtype == np.uint8
    step = (high - low) / 255
    assert (np.abs(low + step * small - exact) <= step * 1.01 + 1e-6).all()
    # The least and the greatest number of each dimension are the ends of the scale.
    assert (small.min(axis=0) == 0).all()
    assert (small.max(axis=0) >= 254).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has no line that is not blank"),
        (" \n\n", "has no line that is not blank"),
        (b"\xff\n", "line 1: it is not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_corpus_without_texts(
    stub: Stub, redis_url: str, tmp_path: Path, content: str | bytes | None, reason: str
) -> None:
    corpus = tmp_path / "corpus.txt"
    if content is not None:
        corpus.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInputValue, match=reason):
        run(redis_url, corpus, "-o", tmp_path / "ranges.json")
    assert not (tmp_path / "ranges.json").exists()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"task": "sparse"}, "stub gives sparse rows"),
        ({"task": "score"}, "stub gives scores"),
        ({"row_shape": [None, 4]}, "stub gives a vector for each token"),
    ],
)
def test_models_without_vectors(
    redis_url: str, redis: Redis, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    worker_info.publish(redis, dataclasses.replace(info(["bertq"]), **fields))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a\n")
    with pytest.raises(BadInputValue, match=reason):
        run(redis_url, corpus, "-o", tmp_path / "ranges.json")


@pytest.mark.parametrize("place", ["/no/such/place", "/proc/self/mem", "/dev/null/x"])
def test_an_output_that_cannot_be_written(redis_url: str, tmp_path: Path, place: str) -> None:
    with pytest.raises(OutputError):
        run(redis_url, tmp_path / "corpus.txt", "-o", place)


def test_ctrl_c(stub: Stub, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(texts(3000)))
    stub.gate.clear()
    command = ["int8-ranges", "corpus.txt", "-o", "ranges.json", "-q", "--redis-url", redis_url]
    started = Run(tmp_path, *command)
    eventually(lambda: stub.asked > 0, 30)
    started.process.send_signal(signal.SIGINT)
    assert started.wait(15) == (130, "interrupted: nothing was written\n")
    stub.gate.set()
    assert not (tmp_path / "ranges.json").exists()


def test_contradicting_rows() -> None:
    ranges = Ranges()
    ranges.add(np.ones((2, 3), np.float32), "f")
    with pytest.raises(ModelMismatch):
        ranges.add(np.ones((2, 3), np.float32), "g")
    with pytest.raises(BadInputValue, match="vectors of 4 numbers came after those of 3"):
        ranges.add(np.ones((2, 4), np.float32), "f")
    with pytest.raises(BadInputValue, match="not finite"):
        ranges.add(np.full((2, 3), np.inf, np.float32), "f")
    with pytest.raises(BadInputValue, match="one vector for each text"):
        ranges.add(np.ones((2, 5, 3), np.float32), "f")
    ranges.add(np.array([[0, 1, 0.1]], np.float32), "f")
    assert ranges.rows == 3
    assert ranges.document()["ranges"] == [[0, 1, 0.1], [1, 1, 1]]
