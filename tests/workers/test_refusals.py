"""Workers that must not start: one line that names the value, no traceback, no zero status."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import clean_environ

CASES = [
    ([], {}, "no model: give --model-dir DIR or BERTQ_MODEL_DIR"),
    (["--model-dir", "/no/such/place"], {}, "/no/such/place"),
    (["-Q", "gpux"], {}, "no queue is named 'gpux'"),
    (["-Q", "celery"], {}, "no queue is named 'celery'"),
    (["-Q", "gpu0,gpu1"], {}, "one device, not on gpu0, gpu1"),
    (["-P", "threads"], {}, "leave out -P/--pool"),
    (["-Q", "cpu0", "-X", "cpu0"], {}, "-X leaves no queue"),
    (["--model-dir", "/" + "x" * 300], {}, "no such model directory"),
    (["--max-seq-len", "1"], {}, "--max-seq-len is '1'"),
    (["--pooling-layer", "two"], {}, "--pooling-layer is 'two'"),
    (["--max-batch-size", "0"], {}, "--max-batch-size is '0'"),
    (["--threads", "none"], {}, "--threads is 'none'"),
    ([], {"BERTQ_MAX_SEQ_LEN": "x"}, "BERTQ_MAX_SEQ_LEN is 'x'"),
    ([], {"BERTQ_REDIS_URL": "h:1"}, "BERTQ_REDIS_URL is 'h:1'"),
    ([], {"CELERY_RESULT_BACKEND": "rpc://"}, "leave out --result-backend"),
    (["-Q", "gpu2"], {"CUDA_VISIBLE_DEVICES": "0", "BERTQ_MODEL_DIR": "/x"}, "gpu2 asks for GPU"),
]


@pytest.mark.parametrize(("options", "variables", "reason"), CASES)
def test_a_worker_that_cannot_start_says_why(
    options: list[str], variables: dict[str, str], reason: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "bertq", "worker", *options],
        env={**clean_environ(), "BERTQ_REDIS_URL": "redis://127.0.0.1:1/0", **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
    output = done.stdout + done.stderr
    assert done.returncode in (1, 2), output
    assert reason in output
    assert "Traceback" not in output


def test_the_options_are_in_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "bertq", "worker", "--help"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    for option in (
        "--model-dir DIR",
        "--max-seq-len N",
        "--max-batch-size N",
        "--pooling-strategy NAME",
        "--pooling-layer LAYERS",
        "--dtype NAME",
        "--threads N",
    ):
        assert option in done.stdout
    assert "BERTQ_MODEL_DIR" in done.stdout
