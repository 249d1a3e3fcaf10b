"""Batches of fixed shapes that XLA compiles."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bertq_bert import Encoder, load_encoder, read_source
from bertq_bert.network import padding
from bertq_bert.network.compiled import CompiledNetwork, CompileStats, Shape
from tests.bert.test_directories import MODELS, inputs, reference
from tests.waiting import eventually


@contextmanager
def compiling(path: Path, dtype: str = "float32") -> Iterator[Encoder]:
    encoder = Encoder.build(read_source(path, dtype=dtype), compiles=True)
    assert encoder._graph.compiled is not None
    try:
        yield encoder
    finally:
        encoder._graph.compiled.close()


def stats(encoder: Encoder) -> CompileStats:
    found = encoder.compile_stats()
    assert found is not None
    return found


@pytest.mark.parametrize(
    "name",
    [
        "bert-max-mean",
        "mpnet-even-heads",
        "modernbert-even-heads",
        "nomic-mean-norm",
        "roberta-prompt-left-out",
        "cross-bert-3",
        "splade-distilbert",
        "bert-lasttoken-cls",
    ],
)
def test_the_vectors_of_sentence_transformers(name: str) -> None:
    wanted = reference(name)
    scale = max(1.0, float(np.abs(wanted).max()))
    with compiling(MODELS / name) as encoder:
        texts = list(inputs(name))
        before = encoder.encode(texts)  # the shape is not ready
        eventually(lambda: stats(encoder).shapes > 0, 60)
        assert stats(encoder).errors == 0
        assert stats(encoder).seconds > 0
        after = encoder.encode(texts)
    for rows in (before, after):
        np.testing.assert_allclose(rows / scale, wanted / scale, rtol=0, atol=1e-5)
    np.testing.assert_allclose(after / scale, before / scale, rtol=0, atol=5e-6)


def test_bfloat16() -> None:
    exact = load_encoder(MODELS / "bert-even-heads").encode(inputs("bert-even-heads"))
    with compiling(MODELS / "bert-even-heads", "bfloat16") as encoder:
        texts = list(inputs("bert-even-heads"))
        encoder.encode(texts)
        eventually(lambda: stats(encoder).shapes > 0, 60)
        rows = encoder.encode(texts)
    cosines = (rows * exact).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.999
    assert np.abs(rows - exact).max() > 1e-5, "this was float32"


def test_token_vectors_and_the_edges_of_shapes() -> None:
    source = read_source(MODELS / "bert-mean", pooling_strategy="NONE", max_seq_len=50)
    encoder = Encoder.build(source, compiles=True)
    fixed = load_encoder(MODELS / "bert-mean", pooling_strategy="NONE", max_seq_len=50)
    assert encoder._graph.compiled is not None
    random = np.random.default_rng(3)
    for lengths in ([17, 15], [16, 16, 8], [50, 1, 1]):
        ids = [random.integers(5, 40, length).tolist() for length in lengths]
        ready = stats(encoder).shapes
        wanted = fixed.run(ids)
        np.testing.assert_allclose(encoder.run(ids), wanted, rtol=0, atol=5e-6)
        eventually(lambda ready=ready: stats(encoder).shapes > ready, 60)  # type: ignore[misc]
        rows = encoder.run(ids)
        assert rows.shape == wanted.shape
        np.testing.assert_allclose(rows, wanted, rtol=0, atol=5e-6)
    encoder._graph.compiled.close()


class Function:
    """Stands for a function that XLA compiles: it records the shapes of its inputs."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int, int]] = []
        self.error: Exception | None = None

    def __call__(self, ids: Any, marks: Any, *places: Any) -> "Function":
        if self.error is not None:
            raise self.error
        assert [len(ids)] * 2 == [len(array) for array in places[1:3]]
        self.shapes.append((len(places[0]), len(marks), places[3].shape[1]))
        return self

    def numpy(self) -> npt.NDArray[np.float32]:
        return np.zeros((self.shapes[-1][0], 2), np.float32)


def test_the_shapes_of_batches() -> None:
    function = Function()
    network = CompiledNetwork(function, 512, max_shapes=2)
    assert network.choose(3, 33, 20) is None
    eventually(lambda: network.stats().waiting == 0)
    assert network.stats().shapes == 1
    assert function.shapes == [(3, 40, 32)]
    shape = network.choose(3, 39, 17)
    assert shape == Shape(3, 40, 32)
    network(shape, [[5] * 17, [5] * 20, [5] * 2])
    assert function.shapes[1:] == [(3, 40, 32)]
    # a batch that is a little smaller, or much
    assert network.choose(2, 28, 32) == Shape(3, 40, 32)
    eventually(lambda: network.stats().shapes == 2)
    assert network.choose(1, 20, 20) is None
    network.close()
    assert network.stats().shapes == 2, "more shapes than allowed"
    assert network.choose(3, 39, 17) == Shape(3, 40, 32)


def test_the_longest_row_is_bounded() -> None:
    assert Shape.around(1, 100, 70, 80) == Shape(1, 112, 80)
    assert Shape.around(1, 3, 3, 512) == Shape(1, 16, 16)
    for number in range(1, 5000):
        rounded = padding.round_up(number)
        assert number <= rounded <= 1.25 * number + 1
        assert padding.round_up(rounded) == rounded


def test_nothing_is_compiled_after_errors(caplog: pytest.LogCaptureFixture) -> None:
    function = Function()
    function.error = RuntimeError("no compiler\nand a page of names")
    network = CompiledNetwork(function, 512)
    for rows in (1, 2, 3, 4):
        assert network.choose(rows, 20, 20) is None
        assert network.stats().waiting <= 1
        eventually(lambda rows=rows: network.stats().errors >= min(rows, 3))  # type: ignore[misc]
    assert "cannot compile a batch of 1 rows, 20 tokens, at most 32 in a row: " in caplog.text
    assert "no further shapes are compiled" in caplog.text
    assert "page of names" not in caplog.text
    network.close()
    assert network.stats() == CompileStats(0, network.stats().seconds, 3, waiting=0)


#: A worker's start with a cache, as its own process: TensorFlow reads its flags once.
SCRIPT = """
import logging, sys, time
from pathlib import Path
import numpy as np
from bertq.config.settings import Settings
from bertq.protocol.queues import Device
from bertq_workers.startup import loading
logging.basicConfig(level="INFO", stream=sys.stdout)
model, cache = sys.argv[1:]
settings = Settings(model_dir=model, compile=True, compile_cache=cache)
encoder, _ = loading.build(loading.read(settings, None), settings, Device("cpu", 0))
ids = [[5, 6, 7]] * 3
before = encoder.run(ids)
end = time.monotonic() + 60
while encoder._graph.compiled.choose(3, 9, 3) is None and time.monotonic() < end:
    time.sleep(0.01)
np.testing.assert_allclose(encoder.run(ids), before, rtol=0, atol=5e-6)
print(encoder.compile_stats())
"""


def test_a_worker_uses_stored_functions(tmp_path: Path) -> None:
    def start() -> str:
        arguments = [str(MODELS / "bert-mean"), str(tmp_path / "cache")]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "errors=0" in done.stdout
        return done.stdout

    assert "has 0 functions for this worker" in start()
    entries = tmp_path / "cache" / "entries"
    stored = list(entries.rglob("*.pb"))
    for path in stored:
        path.write_bytes(path.read_bytes()[:1000])
    log = start()
    assert log.count("it is damaged") == len(stored) > 0
    assert "has 0 functions for this worker" in log
    assert list(entries.rglob("*.pb")), "nothing was stored again"
