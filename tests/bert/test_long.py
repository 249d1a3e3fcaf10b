"""Texts of thousands of tokens: attention in blocks gives the same rows, in bounded memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertq_bert import load_encoder, read_source
from tests.bert.test_directories import MODELS

#: Families with computed positions, whose maximum length can be increased.
ROTARY = ["modernbert-even-heads", "nomic-mean-norm", "gte-cls-norm"]

#: Runs a text of the longest length, alone in a process, and tells how far its memory rose.
PROGRAM = """
import resource, sys
import numpy as np
from bertq_bert import load_encoder
encoder = load_encoder(sys.argv[1], max_seq_len=8192)
ids = [[5 + n % 300 for n in range(8192)]]
encoder.compute([ids[0][:600]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = encoder.compute(ids)
assert np.isfinite(rows).all() and rows.shape[0] == 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def lengthened(name: str, directory: Path, positions: int = 8192) -> Path:
    """Copy a model with computed positions, and increase its maximum length."""
    shutil.copytree(MODELS / name, directory)
    for file, key in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
        ("sentence_bert_config.json", "max_seq_length"),
    ):
        path = directory / file
        values = json.loads(path.read_text())
        if key in values:
            path.write_text(json.dumps(values | {key: positions}))
    return directory


@pytest.mark.parametrize("name", ROTARY)
def test_blocks_give_the_same_rows(name: str, tmp_path: Path) -> None:
    from bertq_bert.network.graph import Graph

    model = lengthened(name, tmp_path / name, 512)
    rng = np.random.default_rng(0)
    rows = []
    for bound in (None, 5000, 60_000):
        source = read_source(model)
        graph = Graph(source.config, source.weights, source.pooling, "float32", bound)
        for lengths in ([300], [7, 33, 150], [3]):
            ids = [rng.integers(5, 300, length).tolist() for length in lengths]
            rows.append(graph(ids))
        rng = np.random.default_rng(0)
    for whole, *others in zip(rows[:3], rows[3:6], rows[6:], strict=True):
        for blocks in others:
            np.testing.assert_allclose(blocks, whole, atol=2e-6, rtol=0)


def test_a_directory_decides_for_long_texts(tmp_path: Path) -> None:
    encoder = load_encoder(lengthened("modernbert-mean", tmp_path / "model", 2048))
    text = "in the beginning was the word " * 400
    (ids,) = encoder.tokenize([text]).ids
    assert len(ids) == encoder.max_seq_len == 2048
    short = load_encoder(MODELS / "modernbert-mean")
    np.testing.assert_allclose(encoder.encode(["the word"]), short.encode(["the word"]), atol=1e-6)
    assert np.abs(encoder.encode([text]) - short.encode([text])).max() > 1e-3


def test_the_memory_of_attention_is_bounded(tmp_path: Path) -> None:
    # all scores at once would take 3 heads x 8192 x 8192 x 4 bytes = 768 MiB, several times
    model = lengthened("modernbert-mean", tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400
