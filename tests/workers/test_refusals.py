"""Workers that must not start: one line that names the value, no traceback, no zero status."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.bert.checkpoints import write_tiny_hf
from tests.workers.conftest import Refuse

CASES = [
    ([], {}, "no model: give --model-dir DIR or BERTQ_MODEL_DIR"),
    (["--model-dir", "/no/such/place"], {}, "/no/such/place"),
    (["-Q", "gpux"], {}, "no queue is named 'gpux'"),
    (["-Q", "celery"], {}, "no queue is named 'celery'"),
    (["-Q", "gpu0,gpu1"], {}, "one device, not on gpu0, gpu1"),
    (["-P", "threads"], {}, "leave out -P/--pool"),
    (["-P", "solo"], {}, "leave out -P/--pool"),
    (["--autoscale", "4,1"], {}, "--autoscale has nothing to scale"),
    (["-Q", "cpu0", "-X", "cpu0"], {}, "-X leaves no queue"),
    (["--model-dir", "/" + "x" * 300], {}, "no such model directory"),
    (["--max-seq-len", "1"], {}, "--max-seq-len is '1'"),
    (["--pooling-layer", "two"], {}, "--pooling-layer is 'two'"),
    (["--max-batch-size", "0"], {}, "--max-batch-size is '0'"),
    (["--priority-batch-size", "x"], {}, "--priority-batch-size is 'x'"),
    (["--threads", "none"], {}, "--threads is 'none'"),
    (["--batch-timeout", "0"], {}, "--batch-timeout is '0'"),
    (["--metrics-port", "65536"], {}, "--metrics-port is '65536'"),
    (["--metrics-host", " "], {}, "--metrics-host is ' '"),
    (
        ["--metrics-port", "9199", "--metrics-host", "192.0.2.1"],
        {},
        "9199 of 192.0.2.1 cannot",
    ),
    (["--metrics-port", "9199", "--metrics-host", "a" * 64], {}, "must be the name or address of"),
    (["--log-format", "xml"], {}, "--log-format is 'xml': it must be text or json"),
    (["--compat", "tei"], {}, "--compat is 'tei': it must be bert-as-service"),
    ([], {"BERTQ_INT8_RANGES": " "}, "BERTQ_INT8_RANGES is ' ': it must be the path of a file"),
    ([], {"BERTQ_LOG_FORMAT": "xml"}, "BERTQ_LOG_FORMAT is 'xml': it must be text or json"),
    ([], {"BERTQ_METRICS_PORT": "none"}, "BERTQ_METRICS_PORT is 'none': it must be a port, from"),
    ([], {"BERTQ_MAX_SEQ_LEN": "x"}, "BERTQ_MAX_SEQ_LEN is 'x'"),
    ([], {"BERTQ_REDIS_URL": "h:1"}, "BERTQ_REDIS_URL is 'h:1'"),
    ([], {"CELERY_RESULT_BACKEND": "rpc://"}, "leave out --result-backend"),
    ([], {"CELERY_BROKER_READ_URL": "redis://:a;b@h/0"}, "leave out the variable CELERY_BROKER_R"),
    (["-Q", "gpu2"], {"CUDA_VISIBLE_DEVICES": "0", "BERTQ_MODEL_DIR": "/x"}, "gpu2 asks for GPU"),
]


@pytest.mark.parametrize(("options", "variables", "reason"), CASES)
def test_a_worker_that_cannot_start_says_why(
    refuse: Refuse, options: list[str], variables: dict[str, str], reason: str
) -> None:
    status, lines = refuse(options, variables)
    # Mistakes that click finds have its exit status, and the usage before the error.
    usage = [line for line in lines if line.startswith(("Usage:", "Try "))]
    assert status == (2 if usage else os.EX_CONFIG)
    assert [reason in line for line in lines if line not in usage] == [True], lines


def rewrite(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of a model."""
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")


def edit(model: Path, **values: object) -> None:
    """Change the config of a model."""
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(path: Path) -> None:
    """Cut a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BIAS = "encoder.layer.1.output.dense.bias"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), "no bert_config.json"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "no model.safetensors in"),
    "no vocabulary": (lambda m: (m / "vocab.txt").unlink(), "vocab.txt"),
    "broken config": (lambda m: cut(m / "config.json"), "config.json"),
    "broken weights": (lambda m: cut(m / "model.safetensors"), "model.safetensors"),
    "missing variable": (lambda m: rewrite(m, lambda t: t.pop(BIAS)), BIAS),
    "wrong shape": (
        lambda m: rewrite(m, lambda t: t.update({BIAS: np.zeros(7, np.float32)})),
        f"{BIAS}' has shape [7]",
    ),
    "pickle": (
        lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"),
        "bertq convert ",
    ),
    "another model": (lambda m: edit(m, model_type="t5"), "model_type 't5' is not supported"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_model_that_cannot_be_used(refuse: Refuse, damage: str, tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path / "model")
    change, reason = DAMAGE[damage]
    change(model)
    status, lines = refuse([], {"BERTQ_MODEL_DIR": str(model)})
    assert status == os.EX_CONFIG, lines
    assert [reason in line for line in lines] == [True], lines


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--max-seq-len", "513", "max_seq_len is 513: give 3"),
        ("--pooling-strategy", "MEDIAN", "'MEDIAN'"),
        ("--pooling-strategy", "mean+median", "MEDIAN"),
        ("--int8-ranges", "/no/such/ranges.json", "/no/such/ranges.json"),
        ("--pooling-layer", "-13", "-13"),
        ("--dtype", "int8", "'int8'"),
    ],
)
def test_an_option_that_the_model_does_not_have(
    refuse: Refuse, option: str, value: str, reason: str, tiny_model: Path
) -> None:
    status, lines = refuse([option, value], {"BERTQ_MODEL_DIR": str(tiny_model)})
    assert status == os.EX_CONFIG, lines
    assert [reason in line for line in lines] == [True], lines


def test_the_options_are_in_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "bertq", "worker", "--help"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    options = [
        "--model-dir DIR",
        "--max-seq-len N",
        "--max-batch-size N",
        "--priority-batch-size N",
        "--pooling-strategy NAME",
        "--pooling-layer LAYERS",
        "--dtype NAME",
        "--threads N",
        "--batch-timeout SECONDS",
    ]
    places = [done.stdout.index(option) for option in options]
    assert places == sorted(places)
    assert "BERTQ_MODEL_DIR" in done.stdout
