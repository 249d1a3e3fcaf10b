"""No process and no temporary file survives a command that is ended by SIGTERM, at any moment."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bertq_cli.service.embedded_redis import free_port
from tests.cli import survivors
from tests.cli.runs import BERTQ
from tests.conftest import clean_environ

#: Command lines, and the seconds within which they are ended.
COMMANDS = {
    "serve": (
        "serve --cpu --num-workers 2 --model-dir MODEL --port PORT1 --data-dir data"
        " --flower PORT2 --http-port PORT3",
        12.0,
    ),
    "demo": ("demo --model-dir MODEL", 9.0),
    "bench": (
        "bench --cpu --model-dir MODEL --seconds 0.2 --rounds 1 --workers 1"
        " --table max_batch_size --max-batch-size 16",
        12.0,
    ),
    "http": ("http --port PORT1 --redis-url redis://127.0.0.1:1/0", 2.0),
    "redis": ("redis --port PORT1 --data-dir data", 1.5),
    "encode": ("encode - -o x.npy --redis-url redis://127.0.0.1:1/0", 1.5),
    "download": ("download splade-tiny-msmarco", 3.0),
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")
@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_survives(tmp_path: Path, tiny_model: Path, name: str, part: int) -> None:
    line, limit = COMMANDS[name]
    seconds = limit * (part + random.random()) / 3
    values = {f"PORT{number}": str(free_port()) for number in (1, 2, 3)}
    values["MODEL"] = str(tiny_model)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [*BERTQ, *(values.get(word, word) for word in line.split())]
    done = subprocess.run(
        [sys.executable, survivors.__file__, str(seconds), *command],
        cwd=tmp_path,
        env=clean_environ() | {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    moment = f"{name} was ended after {seconds:.2f} s:\n{done.stderr}"
    assert (done.returncode, done.stdout) == (0, ""), moment
    assert "Traceback" not in done.stderr, moment
    left = [path.name for path in [*temporary.iterdir(), *tmp_path.rglob(".fetch-*")]]
    assert left == [], moment
