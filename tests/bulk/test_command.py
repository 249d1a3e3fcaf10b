"""``bertq encode``, killed and interrupted as users do it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bulk.conftest import Encode, Write, names, rows_kept, sentences
from tests.cli.runs import BERTQ
from tests.client.stub import Stub, rows
from tests.conftest import clean_environ
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TEXTS = sentences(6000)


def more_than(kept: int, output: Path) -> None:
    """Wait until more than ``kept`` rows would be kept."""
    eventually(lambda: rows_kept(output) > kept, 60)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_killed_repeatedly(
    slow: Stub, corpus: Write, tmp_path: Path, encode: Encode, suffix: str
) -> None:
    source, output, whole = corpus(TEXTS), tmp_path / f"v{suffix}", tmp_path / f"whole{suffix}"
    command = (source, "-o", output, "--batch-size", "100")
    run, kept = encode(*command), 0
    for _ in range(2):
        more_than(kept, output)
        run.process.kill()
        assert run.wait()[0] == -signal.SIGKILL
        kept = rows_kept(output)
        assert kept < 6000
        assert not output.exists()
        run = encode(*command, "--resume")
    status, printed = run.wait()
    assert status == 0
    # On a busy machine, it may have warned before that it found no worker yet.
    assert printed.endswith(f"{output}: 6000 rows, kept {kept}, encoded {6000 - kept}\n")
    assert encode(source, "-o", whole).wait()[0] == 0
    assert output.read_bytes() == whole.read_bytes()
    again = encode(*command, "--resume").wait()
    assert again == (0, f"{output}: 6000 rows, kept 6000, encoded 0\n")


def test_ctrl_c(
    stub: Stub, corpus: Write, tmp_path: Path, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, asked = stub.encode, 0
    texts = [f"interrupted {text}" for text in TEXTS]  # other tests may have left chunks

    def encode_thirty(request: Any, redis: Any, chunk: list[Any], options: Any) -> Any:
        nonlocal asked
        asked += chunk[0].startswith("interrupted")
        if asked == 30:
            stub.gate.clear()  # the run cannot finish before it handles the signal
        return quick(request, redis, chunk, options)

    monkeypatch.setattr(stub, "encode", encode_thirty)
    source, output = corpus(texts), tmp_path / "v.npy"
    run = encode(source, "-o", output, "--batch-size", "100")
    eventually(lambda: asked >= 30, 60)
    run.process.send_signal(signal.SIGINT)
    status, printed = run.wait(15)
    stub.gate.set()
    kept = rows_kept(output)
    assert status == 130
    assert printed == (f"interrupted\n{kept} rows are saved: run again with --resume\n")
    assert 0 < kept < 6000
    assert kept % 100 == 0
    assert encode(source, "-o", output, "--resume").wait() == (
        0, f"{output}: 6000 rows, kept {kept}, encoded {6000 - kept}\n",
    )  # fmt: skip
    np.testing.assert_array_equal(np.load(output), rows(texts))


def test_interrupted_before_the_first_row(
    stub: Stub, corpus: Write, tmp_path: Path, encode: Encode
) -> None:
    stub.gate.clear()
    run = encode(corpus(TEXTS), "-o", tmp_path / "v.npy")
    # The stub cannot tell when the run began: it may still get chunks of runs that were killed.
    eventually(lambda: (tmp_path / "v.npy.part").exists(), 30)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == (130, "interrupted\n")
    run = encode(corpus(TEXTS), "-o", tmp_path / "v.npy")
    eventually(lambda: (tmp_path / "v.npy.part").exists(), 30)
    run.process.kill()
    run.wait()
    stub.gate.set()
    # An empty partial output does not prevent another run.
    assert encode(corpus(TEXTS), "-o", tmp_path / "v.npy").wait()[0] == 0


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_killed_at_every_step(stub: Stub, redis_url: str, tmp_path: Path, suffix: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bulk.crashes", redis_url, str(tmp_path), suffix],
        cwd=ROOT,
        env=clean_environ() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 30


def run(url: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the command; return status, output and errors."""
    done = subprocess.run(
        [*BERTQ, "encode", *arguments, "--redis-url", url],
        input=stdin,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_pipe(stub: Stub, redis_url: str, tmp_path: Path) -> None:
    output = str(tmp_path / "v.npy")
    lines = "".join(f"{text}\n" for text in TEXTS)
    status, printed, shown = run(redis_url, "-", "-o", output, "--blank", "skip", stdin=lines)
    assert (status, printed) == (0, f"{output}: 6000 rows, kept 0, encoded 6000\n")
    assert "6,000 sentences" in shown
    np.testing.assert_array_equal(np.load(output), rows(TEXTS))
    status, _, shown = run(redis_url, "-", "-o", output, "-q", stdin=lines)
    assert (status, shown) == (1, f"Error: {output} exists already: --overwrite replaces it\n")


def test_options(stub: Stub, redis_url: str, corpus: Write, tmp_path: Path) -> None:
    output = str(tmp_path / "v.npy")
    source = str(
        corpus(['{"q": ["a", "b"]}', '{"q": []}', f'{{"q": {["w"] * 30}}}'.replace("'", '"')], "c")
    )
    status, printed, shown = run(
        redis_url, source, "-o", output, "--input-format", "jsonl", "--field", "q", "--tokenized",
        "--normalize", "--truncate", "left", "--precision", "float16", "--blank", "zero", "-q",
        "--timeout", "20", "--batch-size", "7", "--queue", "bertq",
    )  # fmt: skip
    assert (status, printed) == (0, f"{output}: 3 rows, kept 0, encoded 3\n")
    assert shown == "Warning: 1 sentence was cut to the number of tokens that the model reads\n"
    assert stub.options[-1] == {
        "is_tokenized": True, "normalize": True, "truncate": "left", "precision": "float16",
    }  # fmt: skip
    assert np.load(output).dtype == np.float16
    status, _, _ = run(
        redis_url, str(corpus(["a"])), "-o", output, "--overwrite", "-q", "--no-normalize",
        "--prompt-name", "query", "--dimensions", "3", "--pairs", "--precision", "ubinary",
    )  # fmt: skip
    assert status == 0
    assert stub.options[-1] == {
        "normalize": False, "prompt_name": "query", "dimensions": 3, "pairs": True,
        "precision": "ubinary",
    }  # fmt: skip
    assert np.load(output).dtype == np.uint8
    for name, text in (("--prompt", ""), ("--input-type", "document")):
        assert run(redis_url, str(corpus(["a"])), "-o", output, "--overwrite", name, text)[0] == 0
        assert stub.options[-1] == {name.removeprefix("--").replace("-", "_"): text}


def test_errors_are_one_line(stub: Stub, redis_url: str, corpus: Write, tmp_path: Path) -> None:
    source = corpus(["secret", ""])
    status, _, shown = run(redis_url, str(source), "-o", str(tmp_path / "v.npy"))
    assert (status, shown) == (
        1,
        f"Error: {source}, line 2: it is blank (blank zero makes it a row of zeros, skip leaves "
        "it out)\n",
    )
    assert names(tmp_path) == ["corpus.txt"]
    assert run(redis_url, str(source), "-o", str(tmp_path / "v.npy"), "--queue", "x")[0] == 1
    assert run(redis_url, str(source))[0] == 2


def test_it_needs_no_tensorflow() -> None:
    unwanted = "{'tensorflow', 'celery', 'kombu'}"
    script = f"import sys, bertq_cli.commands.encode; print({unwanted} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.stdout == "set()\n"
