"""Fine-tuned heads in both layouts, against numpy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertq_bert import load_encoder, read_source
from bertq_bert.errors import BadOption, MissingVariable, UnknownDtype, WrongShape
from tests.bert.checkpoints import (
    TINY,
    save_google,
    tiny_variables,
    write_tiny_google,
    write_tiny_hf,
)
from tests.bert.sentences import LENGTH, SMALL, TEXTS, of_text, rows_of

THEIRS = {"output_weights": "classifier.weight", "output_bias": "classifier.bias"}


def head(labels: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((labels, TINY["hidden_size"])).astype(np.float32)
    return {
        "output_weights": weights,
        "output_bias": rng.standard_normal(labels).astype(np.float32),
    }


def write_head(model: Path, tensors: Mapping[str, Any]) -> Path:
    """Add tensors to a checkpoint in Hugging Face's layout."""
    saved = load_file(model / "model.safetensors") | dict(tensors)
    save_file(saved, model / "model.safetensors")
    return model


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with a head of three labels, in both layouts."""
    root = tmp_path_factory.mktemp("tuned")
    google = write_tiny_google(root / "google", **SMALL)
    save_google(google / "bert_model.ckpt", tiny_variables(TINY | SMALL) | head(3))
    hugging_face = write_tiny_hf(root / "hf", prefix="bert.", **SMALL)
    write_head(hugging_face, {THEIRS[name]: array for name, array in head(3).items()})
    return {"google": google, "hf": hugging_face}


@pytest.mark.parametrize("layout", ["google", "hf"])
@pytest.mark.parametrize("strategy", ["CLASSIFICATION", "REGRESSION"])
def test_rows(tuned: dict[str, Path], layout: str, strategy: str) -> None:
    encoder = load_encoder(tuned[layout], max_seq_len=LENGTH, pooling_strategy=strategy)
    rows = encoder.encode(TEXTS)
    assert rows.shape == (len(TEXTS), 3) == (len(TEXTS), *encoder.row_shape)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, wanted(strategy, 3), atol=2e-5, rtol=0)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, rows, atol=1e-6, rtol=0)


def wanted(strategy: str, labels: int) -> Any:
    return rows_of(
        [of_text(text) for text in TEXTS],
        strategy,
        variables=lambda config: tiny_variables(config) | head(labels),
        config=SMALL,
    )


def test_one_label(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path, **SMALL)
    write_head(model, {THEIRS[name]: array for name, array in head(1).items()})
    encoder = load_encoder(
        model, max_seq_len=LENGTH, pooling_strategy="REGRESSION", num_labels=1, mask_cls_sep=True
    )
    rows = encoder.encode(TEXTS)
    np.testing.assert_allclose(rows, wanted("REGRESSION", 1), atol=2e-5, rtol=0)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, rows, atol=1e-6, rtol=0)


def test_half_precision(tuned: dict[str, Path]) -> None:
    options: dict[str, Any] = {"max_seq_len": LENGTH, "pooling_strategy": "CLASSIFICATION"}
    rows = load_encoder(tuned["hf"], dtype="bfloat16", **options).encode(TEXTS)
    np.testing.assert_allclose(rows, wanted("CLASSIFICATION", 3), atol=0.03, rtol=0)
    # the softmax itself is in float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6, rtol=0)


def test_probabilities_are_finite_whatever_the_weights(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path, **SMALL)
    large = {THEIRS[name]: array * np.float32(1e30) for name, array in head(3).items()}
    write_head(model, large)
    for strategy in ("CLASSIFICATION", "REGRESSION"):
        # the head is not of the compute dtype: float16 cannot hold these
        encoder = load_encoder(model, pooling_strategy=strategy, dtype="float16")
        assert np.isfinite(encoder.encode(TEXTS)).all()
    write_head(model, {"pooler.dense.bias": np.full(32, 1e30, np.float32)})
    with pytest.raises(UnknownDtype, match="float16 cannot hold this model's weights"):
        load_encoder(model, pooling_strategy="CLASSIFICATION", dtype="float16")


def test_a_head_is_part_of_the_model(tuned: dict[str, Path], tmp_path: Path) -> None:
    prints = {
        read_source(
            model, pooling_strategy="CLASSIFICATION", pooling_layers=layers, num_labels=labels
        ).model.fingerprint
        for model in tuned.values()
        for labels in (None, 3)
        for layers in ((-1,), (-2,))
    }
    assert len(prints) == 1
    regression = read_source(tuned["hf"], pooling_strategy="REGRESSION").model.fingerprint
    assert regression not in prints
    untuned = write_tiny_hf(tmp_path, **SMALL)
    plain = {read_source(model).model.fingerprint for model in (*tuned.values(), untuned)}
    assert len(plain) == 1


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"num_labels": 2}, BadOption, "num_labels is 2, and strategy REDUCE_MEAN has no labels"),
        (
            {"pooling_strategy": "CLS_POOLED", "num_labels": 3},
            BadOption,
            "CLS_POOLED has no labels",
        ),
        ({"pooling_strategy": "REGRESSION", "num_labels": 0}, BadOption, "give at least 1"),
        (
            {"pooling_strategy": "REGRESSION", "num_labels": 2},
            WrongShape,
            r"'classifier.weight' has shape \[3, 32\], 2 labels call for \[2, 32\]",
        ),
    ],
)
def test_wrong_labels(
    tuned: dict[str, Path], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        read_source(tuned["hf"], **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [None, 3])
def test_a_model_without_a_head(tiny_hf: Path, tiny_google: Path, labels: int | None) -> None:
    for model, name in ((tiny_hf, "classifier.weight"), (tiny_google, "output_weights")):
        with pytest.raises(MissingVariable, match=f"'{name}': no head was tuned"):
            read_source(model, pooling_strategy="CLASSIFICATION", num_labels=labels)


def test_half_a_head(tmp_path: Path) -> None:
    model = write_head(write_tiny_hf(tmp_path), {"classifier.weight": head(3)["output_weights"]})
    with pytest.raises(MissingVariable, match=r"'classifier.bias': no head was tuned"):
        read_source(model, pooling_strategy="CLASSIFICATION")
    write_head(model, {"classifier.bias": np.zeros(2, np.float32)})
    with pytest.raises(WrongShape, match=r"'classifier.bias' has shape \[2\], 3 labels call for"):
        read_source(model, pooling_strategy="CLASSIFICATION")
