"""The peers match the list of peers, and give the same vectors as bertq."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.comparison import PEERS, describe_agreement
from benchmarks.peers.peer_main import Settings
from benchmarks.peers.process import PeerFailed, PeerProcess
from bertq_cli.bench import corpus

_TEXTS = ["the lord", "he shall not be for them", "a", *corpus.clauses()[:30]]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A file of sentences."""
    path = tmp_path / "texts"
    path.write_text("\n".join(_TEXTS))
    return path


def test_padded_and_own_give_the_same_vectors(
    tmp_path: Path, tiny_model: Path, texts: Path
) -> None:
    rows = {}
    for peer in ("own", "padded"):
        with PeerProcess(peer, Settings(tiny_model, 16, 1), ["float32"]) as process:
            assert process.call("texts", path=str(texts)) == len(_TEXTS)
            path = tmp_path / f"{peer}.npy"
            assert process.call("vectors", variant="float32", path=str(path)) == [len(_TEXTS), 32]
            rows[peer] = np.load(path)
            assert process.call("bulk", variant="float32") > 0
            assert len(process.call("calls", variant="float32", start=0, count=4)) == 4
            assert len(process.call("calls", variant="float32", start=8, count=3, size=2)) == 3
            if peer == "own":
                assert len(process.call("batches", variant="float32")) >= 1
    assert np.abs(rows["own"]).max() > 0.1
    np.testing.assert_allclose(rows["padded"], rows["own"], atol=2e-5)


def test_own_in_bfloat16(tmp_path: Path, tiny_model: Path, texts: Path) -> None:
    found = []
    with PeerProcess("own", Settings(tiny_model, 16, 1), ["float32", "bfloat16"]) as process:
        process.call("texts", path=str(texts))
        for variant in ("float32", "bfloat16"):
            process.call("vectors", variant=variant, path=str(tmp_path / "rows.npy"))
            found.append(np.load(tmp_path / "rows.npy"))
    assert describe_agreement(("own", "bfloat16"), found[1], found[0]).startswith("cosine 0.99")


def test_own_with_compiled_shapes(tiny_model: Path, texts: Path) -> None:
    with PeerProcess("own", Settings(tiny_model, 16, 1), ["float32, XLA"]) as process:
        process.call("texts", path=str(texts))
        found = process.call("warm_up", variant="float32, XLA", singles=1)
        assert found["shapes"] > 1
        assert found["compile_seconds"] > 0
        assert (found["compile_errors"], found["peak_bytes"]) == (0, None)
        assert process.call("compute", variant="float32, XLA") > 0
        assert process.call("warm_up", variant="float32, XLA", singles=1) == found


@pytest.mark.parametrize("peer", list(PEERS))
def test_the_list_is_what_the_files_offer(peer: str) -> None:
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    name, variants, _ = PEERS[peer]
    assert name == module.NAME
    assert variants == module.VARIANTS
    assert module.PACKAGES


def test_the_exporter_can_be_read() -> None:
    module = importlib.import_module("benchmarks.peers.onnx_export")
    assert callable(module.main)


def test_other_servers_do_not_need_bertq() -> None:
    # They run in a virtual environment that does not have it.
    block = "import sys; sys.modules.update(dict.fromkeys(('bertq', 'bertq_bert', 'bertq_cli')))"
    names = ", ".join(f"benchmarks.peers.{peer}" for peer in PEERS if peer not in ("own", "padded"))
    program = f"{block}; import {names}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_peer_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="no such model directory"):
        PeerProcess("own", Settings(tmp_path / "none", 16, 1), ["float32"])


def test_vectors_that_differ_are_refused() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert describe_agreement(("ort", "x"), rows + np.float32(5e-5), rows) == "5e-05"
    with pytest.raises(PeerFailed, match="off by"):
        describe_agreement(("ort", "x"), rows + np.float32(1e-3), rows)
    with pytest.raises(PeerFailed, match="off by"):
        describe_agreement(("ort", "x"), rows * np.float32("nan"), rows)
    with pytest.raises(PeerFailed, match="cosine"):
        describe_agreement(("sbert", "bfloat16"), rows[::-1], rows)
    turned = np.array([[1.0, 0.1], [0.0, 1.0]], np.float32)
    assert describe_agreement(("ort", "int8, fused"), turned, rows) == "cosine 0.99504"
    with pytest.raises(PeerFailed, match="cosine"):
        describe_agreement(("sbert", "bfloat16"), turned, rows)
    with pytest.raises(PeerFailed, match="and not"):
        describe_agreement(("ort", "x"), rows[:1], rows)
