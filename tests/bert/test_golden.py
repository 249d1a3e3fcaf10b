"""The vectors of bert-as-service 1.10, from all-MiniLM-L6-v2."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import load_encoder
from bertq_bert.checkpoint import read_weights
from bertq_bert.directory.layout import find_model
from bertq_bert.families import read_config
from bertq_bert.variables import Parts
from tests.bert.conftest import GOLDEN
from tests.bert.reference import Reference

with np.load(GOLDEN / "minilm.npz") as _archive:
    ARRAYS = {name: _archive[name] for name in _archive.files}
DEFAULT = "REDUCE_MEAN|-2|25"

Golden = Callable[[str], list[Any]]


def options(name: str) -> dict[str, Any]:
    strategy, layers, length = name.split("|")
    return {
        "pooling_strategy": strategy,
        "pooling_layers": [int(layer) for layer in layers.split(",")],
        "max_seq_len": int(length),
    }


def test_all_arrays_are_listed() -> None:
    assert len(ARRAYS) == 11
    assert DEFAULT in ARRAYS


def check_vectors(model: Path, name: str, golden: Golden, compat: str | None = None) -> None:
    rows = load_encoder(model, compat=compat, **options(name)).encode(golden("sentences"))
    assert rows.shape == ARRAYS[name].shape
    np.testing.assert_allclose(rows, ARRAYS[name], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ARRAYS)
def test_vectors(demo_model: Path, name: str, golden: Golden) -> None:
    check_vectors(demo_model, name, golden, compat="bert-as-service")


# Both layouts have the same weights, as test_checkpoint.py checks, so a few of the arrays suffice.
@pytest.mark.parametrize("name", [DEFAULT, "CLS_TOKEN|-1|25", "REDUCE_MEAN|-1|40"])
def test_vectors_of_the_google_layout(demo_google: Path, name: str, golden: Golden) -> None:
    check_vectors(demo_google, name, golden)  # this layout needs no option


def test_tokens(demo_model: Path, golden: Golden) -> None:
    encoder = load_encoder(demo_model, compat="bert-as-service")
    pieces = encoder.tokens(encoder.tokenize(golden("sentences")).ids)
    assert pieces == golden("tokens_uncased_25")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(demo_model: Path, dtype: str, golden: Golden) -> None:
    rows = load_encoder(demo_model, compat="bert-as-service", dtype=dtype).encode(
        golden("sentences")
    )
    wanted = ARRAYS[DEFAULT]
    cosines = (rows * wanted).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.shape == (32,)
    assert cosines.min() >= 0.999
    assert np.abs(rows - wanted).max() > 1e-5, "this was float32"


def test_rows_do_not_depend_on_their_batch(demo_model: Path, golden: Golden) -> None:
    encoder = load_encoder(demo_model)
    sentences = golden("sentences")
    many = encoder.encode((sentences * 10)[:300])
    np.testing.assert_array_equal(encoder.encode((sentences * 10)[:300]), many)
    alone = np.concatenate([encoder.encode([sentence]) for sentence in sentences])
    np.testing.assert_allclose(alone, many[:32], atol=1e-6, rtol=0)


def test_rows_are_those_of_float64_at_all_edges(demo_model: Path) -> None:
    encoder = load_encoder(demo_model, pooling_strategy="REDUCE_MEAN", pooling_layers=[-1])
    files = find_model(demo_model)
    weights = read_weights(files, *read_config(files.config), Parts(False))
    rng = np.random.default_rng(0)
    ids = [rng.integers(1000, 20000, length).tolist() for length in (1, 7, 8, 9, 16, 17, 39, 40)]
    reference = Reference(
        json.loads(files.config.read_text()), {f"bert/{name}": a for name, a in weights.items()},
        ids, 40,
    ).rows("REDUCE_MEAN", [-1])  # fmt: skip
    together = encoder.compute(ids)
    np.testing.assert_allclose(together, reference, atol=5e-6, rtol=0)
    alone = np.concatenate([encoder.compute([row]) for row in ids])
    np.testing.assert_allclose(alone, reference, atol=5e-6, rtol=0)
    # 8 tokens are the fewest of a batch, and a padded row has a multiple of 16
    for batch in ([0, 1], [0, 6], [1, 2, 3, 4], [5] * 6, [4, 7] * 9):
        rows = encoder.compute([ids[row] for row in batch])
        np.testing.assert_allclose(rows, reference[batch], atol=5e-6, rtol=0)
