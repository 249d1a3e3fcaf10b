"""Directories as sentence-transformers writes them, without options: its vectors come out.

``tests/data/models`` has a tiny model for each family, each module and both forms of the files.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bertq_bert import Encoder, load_encoder

MODELS = Path(__file__).parents[1] / "data" / "models"
INDEX: dict[str, dict[str, str]] = json.loads((MODELS / "index.json").read_text())
TEXTS: list[str] = json.loads((MODELS / "texts.json").read_text())
PAIRS: list[list[str]] = json.loads((MODELS / "pairs.json").read_text())

#: A directory of each family, and of each kind of head.
FAMILIES = [
    "bert-even-heads",
    "xlmr-mean-old",
    "roberta-mean",
    "camembert-mean-old",
    "mpnet-even-heads",
    "distilbert-cls",
    "electra-mean",
    "albert-groups",
    "modernbert-even-heads",
    "modernbert-cls-norm-old",
    "nomic-mean-norm",
    "gte-cls-norm",
    "cross-bert-3",
    "cross-modernbert-mean",
    "splade-distilbert",
]


def inputs(name: str) -> Sequence[Any]:
    """The inputs of a directory's reference values."""
    return PAIRS if INDEX[name]["kind"] == "scores" else TEXTS


def reference(name: str) -> npt.NDArray[np.float32]:
    """The rows of sentence-transformers for a directory: [inputs, dim]."""
    with np.load(MODELS / f"{name}.npz") as arrays:
        rows: npt.NDArray[np.float32] = arrays[INDEX[name]["kind"]]
    return rows[:, None] if rows.ndim == 1 else rows


@cache
def encoder_of(name: str) -> Encoder:
    """The encoder of one of the families, for all tests: making it takes half a second."""
    assert name in FAMILIES
    return load_encoder(MODELS / name)


def test_all_families_are_listed() -> None:
    assert len(INDEX) == 88
    assert set(FAMILIES) <= INDEX.keys()


@pytest.mark.parametrize("name", INDEX)
def test_the_vectors_of_sentence_transformers(name: str) -> None:
    encoder = encoder_of(name) if name in FAMILIES else load_encoder(MODELS / name)
    rows = encoder.encode(inputs(name))
    wanted = reference(name)
    assert rows.shape == wanted.shape
    assert rows.dtype == np.float32
    # some models have large values, and float32 is relative
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(rows / scale, wanted / scale, rtol=0, atol=1e-5)
    assert (
        encoder.task
        == {"vectors": "embed", "scores": "score", "sparse": "sparse"}[INDEX[name]["kind"]]
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    encoder = encoder_of(name)
    some = list(inputs(name))
    together = encoder.encode(some)
    alone = np.concatenate([encoder.encode([text]) for text in some])
    scale = max(1.0, float(np.abs(together).max()))
    np.testing.assert_allclose(alone / scale, together / scale, rtol=0, atol=1e-6)
    among = encoder.encode([*some, *(some[::-1] * 3)])[: len(some)]
    np.testing.assert_allclose(among / scale, together / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("cross")])
def test_bfloat16(name: str) -> None:
    exact = encoder_of(name).encode(inputs(name))
    rows = load_encoder(MODELS / name, dtype="bfloat16").encode(inputs(name))
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = np.divide((rows * exact).sum(1), norms, out=np.ones_like(norms), where=norms > 0)
    assert cosines.min() > 0.999
    assert np.abs(rows - exact).max() > 1e-5, "this was float32"


@pytest.mark.parametrize("name", FAMILIES)
def test_memory_stays_level(name: str) -> None:
    encoder = encoder_of(name)
    texts = [str(text) for text in inputs(name)]
    mixed = [f"{texts[n % len(texts)]} {n}"[: 1 + n % 97] for n in range(480)]

    def encode() -> int:
        for start in range(0, len(mixed), 32):
            encoder.encode(mixed[start : start + 32])
        return resident()

    encode()  # set up late
    before = encode()
    after = [encode() for _ in range(4)][-1]
    assert after - before < 24 * 2**20


def resident() -> int:
    """Return the bytes of main memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
