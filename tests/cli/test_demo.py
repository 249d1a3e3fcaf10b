"""``bertq demo`` as a user runs it: its output, and no remaining files."""

import os
import re
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from rich.console import Console

from bertq.protocol import keys
from bertq_cli.commands.demo import closest
from tests.cli.runs import Run
from tests.waiting import eventually

MODELS = Path(__file__).parents[1] / "data" / "models"


def test_given_sentences(tmp_path: Path, tiny_model: Path) -> None:
    demo = Run(tmp_path, "demo", "--model-dir", str(tiny_model), "the lord", "the law", "his him")
    status, output = demo.wait()
    assert status == 0, output
    assert re.search(r"encoded     3 sentences in \d+ ms: shape \(3, 32\), float32", output)
    assert re.search(r"the lord +│ +(the law|his him) +│ +-?\d\.\d{3}", output)
    assert "everything is stopped" in output
    assert demo.left() == ({}, [])
    port = re.search(r"redis://127\.0\.0\.1:(\d+)/0", output)
    assert port is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port[1])), timeout=5)


def test_the_real_model(tmp_path: Path, demo_model: Path) -> None:
    demo = Run(tmp_path, "demo")
    status, output = demo.wait()
    assert status == 0, output
    assert "all-MiniLM-L6-v2, from the cache" in output
    assert "shape (6, 384)" in output
    assert (
        "; mean of the last layer, 256 tokens, L2-normalized (from modules.json), float32" in output
    )
    # The cosines of sentence-transformers 6.2.
    assert re.search(r"The cat sleeps.*A kitten.*0\.504", output)
    assert re.search(r"Stocks fell.*Shares lost.*0\.585", output)
    assert re.search(r"She plays.*He is learning.*0\.488", output)
    assert demo.left() == ({}, [])


def test_a_sparse_model(tmp_path: Path) -> None:
    demo = Run(tmp_path, "demo", "--model-dir", str(MODELS / "splade-bert"), "a cat", "a dog")
    status, output = demo.wait()
    assert status == 0, output
    assert "; sparse weights of 400 tokens, 96 tokens (from modules.json), float32" in output
    assert re.search(r"a cat +│ a dog +│ \d\.\d{3}", output)


def test_a_cross_encoder_is_refused(tmp_path: Path) -> None:
    demo = Run(tmp_path, "demo", "--model-dir", str(MODELS / "cross-bert"))
    status, output = demo.wait()
    assert status == 1
    assert "Error: cross-bert gives scores of texts or pairs of them" in output
    assert "Traceback" not in output
    assert demo.left() == ({}, [])


def test_another_server_at_the_port(
    tmp_path: Path, tiny_model: Path, redis_url: str, redis: Redis
) -> None:
    demo = Run(
        tmp_path, "demo", "the lord", BERTQ_REDIS_URL=redis_url, BERTQ_MODEL_DIR=str(tiny_model)
    )
    status, output = demo.wait()
    assert status == 0, output
    assert f"{redis_url}, as given" in output
    assert "shape (1, 32)" in output
    assert demo.left() == ({}, [])
    assert redis.ping()
    names = [key for key in redis.scan_iter("*") if key != keys.EPOCH.encode()]
    assert all(int(redis.ttl(key)) > 0 for key in names), names


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("redis ", signal.SIGINT, 130),
        ("worker ", signal.SIGINT, 130),
        ("redis ", signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, tiny_model: Path, moment: str, number: int, status: int
) -> None:
    # Many sentences, so that there is something to interrupt once the worker is ready.
    texts = [f"the lord {n}" for n in range(3000)]
    demo = Run(tmp_path, "demo", "--model-dir", str(tiny_model), *texts)
    eventually(lambda: moment in demo.output, 60)
    # Ctrl-C reaches the whole group of the terminal; a TERM the one process.
    (os.killpg if number == signal.SIGINT else os.kill)(demo.process.pid, number)
    ended, output = demo.wait(60)
    assert ended == status, output
    assert "Traceback" not in output
    assert demo.left() == ({}, [])


@pytest.mark.parametrize(
    ("arguments", "variables", "reason"),
    [
        ([" "], {}, r"texts\[0\] is blank"),
        (["--model-dir", "/no/such/model"], {}, "no such model directory: /no/such/model"),
        ([], {"BERTQ_REDIS_URL": "nonsense"}, "BERTQ_REDIS_URL is 'nonsense'"),
        ([], {"BERTQ_REDIS_URL": "redis://:pw@127.0.0.1:1/0"}, r"redis://:\*\*@127.* cannot be"),
        (["--port", "1"], {}, "No such option"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(
    tmp_path: Path,
    demo_model: Path,
    arguments: list[str],
    variables: dict[str, str],
    reason: str,
) -> None:
    demo = Run(tmp_path, "demo", *arguments, **variables)
    status, output = demo.wait()
    assert status in (1, 2)
    assert re.search(reason, output), output
    assert "Traceback" not in output
    assert demo.left() == ({}, [])


def test_the_table_of_closest_sentences() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.9, 0.1]], np.float32)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(closest(["east", "north", "nearly east"], vectors))
    lines = capture.get().splitlines()
    assert re.search(r"│ east +│ nearly east +│ 0.994", lines[3])
    assert re.search(r"│ north +│ nearly east +│ 0.110", lines[4])
    with console.capture() as capture:
        console.print(closest(["alone"], vectors[:1]))
    assert re.search(r"│ alone +│ - +│ - ", capture.get())
