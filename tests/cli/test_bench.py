"""``bertq bench`` as a user runs it: its output, refused options, and no remaining files."""

import importlib.util
import json
import os
import re
import signal
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from click.testing import CliRunner

from bertq.errors import SettingsError
from bertq_cli.bench.command import bench
from tests.cli.runs import Run
from tests.waiting import eventually

_LITTLE = (
    "--max-seq-len=20", "--client-batch-size=1,64", "--num-client=2", "--max-batch-size=32",
    "--workers=1,1000", "--rounds=1", "--seconds=0.1", "--cpu",
)  # fmt: skip


def test_the_four_tables(tmp_path: Path, tiny_model: Path) -> None:
    run = Run(tmp_path, "bench", "--model-dir", str(tiny_model), *_LITTLE, "--output", "out")
    status, output = run.wait()
    assert status == 0, output
    assert run.left() == ({}, [])
    names = ("max_seq_len", "client_batch_size", "num_client", "max_batch_size")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"bench.md", "bench.json", *(f"bench-{name}.png" for name in names)}
    for name in names:
        plot = (tmp_path / "out" / f"bench-{name}.png").read_bytes()
        assert plot.startswith(b"\x89PNG")
    page = (tmp_path / "out" / "bench.md").read_text()
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [f"Speed by {name}" for name in names]
    assert "- left out: 1000 workers: this machine has" in page
    assert "- corpus: kjv.txt, 4,096 sentences" in page
    assert f"- model: {tiny_model.name}, fingerprint " in page
    numbers = json.loads((tmp_path / "out" / "bench.json").read_text())
    figures = {(figure["table"], figure["value"]): figure for figure in numbers["figures"]}
    assert set(figures) == {
        ("max_seq_len", 20), ("client_batch_size", 1), ("client_batch_size", 64),
        ("num_client", 2), ("max_batch_size", 32),
    }  # fmt: skip
    assert all(figure["sentences_per_second"]["median"] > 0 for figure in figures.values())
    assert figures["client_batch_size", 64]["sentences_per_call"] == 64
    assert figures["num_client", 2]["num_client"] == 2
    assert figures["max_seq_len", 20]["filled"] is True
    assert figures["max_seq_len", 20]["flops_per_device"] > 0
    assert "- speed of the machine: products in float32 " in page


def test_one_table(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), *_LITTLE, "--table", "max_batch_size"]
    run = Run(tmp_path, "bench", *arguments)
    status, output = run.wait()
    assert status == 0, output
    written = {path.name for path in (tmp_path / "bertq-bench").iterdir()}
    assert written == {"bench.md", "bench.json", "bench-max_batch_size.png"}


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), *_LITTLE[:4], "--cpu", "--output", "out"]
    run = Run(tmp_path, "bench", *arguments)
    eventually(lambda: any("celery" in line for line in run.processes().values()), 60)
    os.killpg(run.process.pid, signal.SIGINT)
    status, output = run.wait(60)
    assert status == 130, output
    assert "stopped     by SIGINT; nothing was written" in output
    assert "Traceback" not in output
    assert run.left() == ({}, [])
    assert list((tmp_path / "out").iterdir()) == []


def test_interrupted_while_clients_send(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--cpu", "--workers", "1", "--seconds", "60"]
    run = Run(tmp_path, "bench", *arguments, "--table", "num_client", "--num-client", "4")
    # Each client has its own threads, and those of TensorFlow are in other processes.
    eventually(lambda: len(list(Path(f"/proc/{run.process.pid}/task").iterdir())) > 15, 60)
    os.killpg(run.process.pid, signal.SIGINT)
    status, output = run.wait(60)
    assert status == 130, output
    assert "Traceback" not in output
    assert run.left() == ({}, [])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--workers", "1000"], "Error: nothing can be measured: 1000 workers: this machine has"),
        (["--model-dir", "/no/such/model"], "Error: no such model directory: /no/such/model"),
        (["--max-seq-len", "20,900"], "Error: --max-seq-len 900: this model takes 3 to 48"),
        (["--output", "/dev/null/x"], "Error: --output /dev/null/x: Not a directory"),
        (["--pooling-layer", "x"], "Error: worker cpu0 cannot start: BERTQ_POOLING_LAYER is 'x'"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(
    tmp_path: Path, tiny_model: Path, arguments: list[str], reason: str
) -> None:
    run = Run(tmp_path, "bench", "--cpu", *_LITTLE[:4], *arguments, BERTQ_MODEL_DIR=str(tiny_model))
    status, output = run.wait()
    assert status == 1
    assert reason in output
    assert output.count("Error:") == 1
    assert "Traceback" not in output
    assert run.left() == ({}, [])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--client-batch-size", "1,x"], "'1,x': give whole numbers above zero"),
        (["--workers", "0"], "'0': give whole numbers above zero"),
        (["--rounds", "0"], "Invalid value for '--rounds'"),
        (["--seconds", "0"], "Invalid value for '--seconds'"),
        (["--dtype", "int8"], "Invalid value for '--dtype'"),
        (["--table", "speed"], "Invalid value for '--table'"),
    ],
)
def test_options_that_cannot_be_read(arguments: list[str], reason: str) -> None:
    refused = CliRunner().invoke(bench, arguments)
    assert refused.exit_code == 2
    assert reason in refused.output


@pytest.mark.parametrize(("package", "extra"), [("matplotlib", "bench"), ("tensorflow", "worker")])
def test_a_package_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    found = importlib.util.find_spec

    def find(name: str, package_: str | None = None) -> ModuleSpec | None:
        return None if name == package else found(name, package_)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    refused = CliRunner().invoke(bench, [])
    assert isinstance(refused.exception, SettingsError)
    message = f"bertq bench needs more packages: pip install 'bertq[{extra}]'"
    assert str(refused.exception) == message
