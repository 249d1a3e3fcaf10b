"""The benchmark of a GPU: its page, a run on the CPU, and what it says without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.card import explain_no_gpu, file_name
from benchmarks.gpu.encoder import EncoderCost, EncoderResult, Speed, make_texts
from benchmarks.gpu.end_to_end import IN_PROCESS, QueueResult
from benchmarks.gpu.page import ModelResult, build_document
from bertq_cli.bench import corpus
from bertq_cli.bench.timing import MedianRange
from tests.conftest import clean_environ

_ROOT = Path(__file__).parents[2]


def rate(value: float) -> MedianRange:
    return MedianRange.from_values([value])


def result(model: str) -> ModelResult:
    """One in which bertq does 300 sentences a second, and its peer 200."""
    own = Speed(rate(300), rate(400), 2.0)
    peer = Speed(rate(200), rate(500), 8.0)
    encoders = [
        EncoderResult("float16, XLA", 20, own, peer, "float16, batches of 256", 0.9999),
        EncoderResult("float16, XLA", None, own),
    ]
    queue = QueueResult(
        {IN_PROCESS: rate(200), "32 threads": rate(50)}, {"32 threads": {"p50": 7.0, "p99": 9.0}}
    )
    costs = {"float16, XLA": EncoderCost(12, 34.5, 0, 2**30)}
    return ModelResult(model, encoders, costs, {"float16, XLA": queue})


def test_the_page() -> None:
    page = build_document([result("BERT-base"), result("MiniLM")], {"card": "X"})
    base, mini, cost, queue = page.tables
    ranges = [f"{value} ({value}\N{EN DASH}{value})" for value in (300, 400, 200, 500)]
    cells = ["float16, XLA, 20", *ranges, "256", "1.50", "0.80", "2.0", "8.0", "0.99990"]
    assert base.rows[0] == [*cells, "787"]  # the published figure is of this model
    assert mini.rows[0] == cells
    none = "\N{EN DASH}"
    assert mini.rows[1] == [
        "float16, XLA, the corpus", *ranges[:2], *[none] * 5, "2.0", none, none,
    ]  # fmt: skip
    assert cost.rows[0] == ["BERT-base, float16, XLA", "12", "34.5", "0", "1,024"]
    assert queue.rows[1][1:] == ["50 (50\N{EN DASH}50)", "0.25", "7.0", "9.0"]
    assert "| float16, XLA, 20 |" in page.markdown()
    assert json.loads(page.json())["models"][1]["encoders"][0]["peer"]["single_ms"] == 8


def test_sentences_of_a_length(demo_model: Path) -> None:
    count = corpus.token_counter(demo_model)
    texts = make_texts(20, 50, count)
    assert count(texts) == [20] * 50
    assert len(set(texts)) == 50


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=_ROOT, env={**clean_environ(), **variables}, capture_output=True, text=True,
        timeout=110,
    )  # fmt: skip


def script(path: Path, command: str) -> str:
    """Return a program that stands for the interpreter of the peers."""
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return str(path)


def test_a_run_on_the_cpu(tmp_path: Path, tiny_model: Path) -> None:
    done = run(
        "--device=cpu", "--model-dir", str(tiny_model), "--dtypes=float32", "--lengths=8",
        "--sentences=16", "--singles=2", "--rounds=1", "--seconds=0.3",
        "--peers-python", script(tmp_path / "python", "exit 1"), "--output", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "gpu-cpu.md").read_text()
    assert page == done.stdout.removesuffix("\n")
    assert "- left out: sentence-transformers: sentence_transformers is not installed" in page
    (model,) = json.loads((tmp_path / "gpu-cpu.json").read_text())["models"]
    assert [(one["variant"], one["tokens"]) for one in model["encoders"]] == [
        ("float32", 8), ("float32", None),
    ]  # fmt: skip
    assert model["costs"] == {
        "float32": {"shapes": 0, "compile_seconds": 0, "compile_errors": 0, "peak_bytes": None}
    }
    assert model["queues"]["float32"]["rates"]["256 threads"]["median"] > 0


def test_a_peer_that_fails(tmp_path: Path, tiny_model: Path) -> None:
    # It has all packages, and ends.
    python = script(tmp_path / "python", 'test "$1" = -c || { echo out of memory >&2; exit 1; }')
    arguments = ["--peers-python", python, "--output", str(tmp_path), "--dtypes=bfloat16"]
    done = run("--device=cpu", "--model-dir", str(tiny_model), *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{tiny_model.name}, bfloat16: sbert has ended: out of memory" in done.stdout
    assert json.loads((tmp_path / "gpu-cpu.json").read_text())["models"][0]["encoders"] == []


def test_without_a_gpu(tmp_path: Path) -> None:
    done = run("--output", str(tmp_path), CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: TensorFlow finds no GPU: ")
    assert line.endswith("or give --device cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("has_cuda", "visible", "reason"),
    [
        (False, None, "without CUDA"),
        (True, "-1", "CUDA_VISIBLE_DEVICES is '-1'"),
        (True, None, "CUDA's libraries"),
    ],
)
def test_what_is_missing(has_cuda: bool, visible: str | None, reason: str) -> None:
    assert reason in explain_no_gpu(has_cuda, visible)


def test_the_name_of_the_files() -> None:
    assert file_name("NVIDIA H200") == "gpu-nvidia-h200"
