"""Other options of bert-as-service 1.10: positions, casing, files with other names."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertq_bert import load_encoder, read_source
from bertq_bert.errors import BadLength, MissingVariable, WrongShape
from tests.bert.checkpoints import (
    TINY,
    save_google,
    tiny_variables,
    write_tiny_google,
    write_tiny_hf,
)
from tests.bert.sentences import LENGTH, SMALL, TEXTS, of_text, rows_of


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "NONE", "CLS_POOLED"])
def test_without_positions(tmp_path: Path, strategy: str) -> None:
    model = write_tiny_hf(tmp_path, **SMALL)
    with_positions = read_source(model, max_seq_len=LENGTH, pooling_strategy=strategy).model
    # neither need the checkpoint have them, nor is there an end to them
    tensors = load_file(model / "model.safetensors")
    del tensors["embeddings.position_embeddings.weight"]
    save_file(tensors, model / "model.safetensors")
    options: dict[str, Any] = {"pooling_strategy": strategy, "no_position_embeddings": True}
    encoder = load_encoder(model, max_seq_len=LENGTH, **options)
    sentences = [of_text(text) for text in TEXTS]
    wanted = rows_of(sentences, strategy, positions=False, config=SMALL)
    np.testing.assert_allclose(encoder.encode(TEXTS), wanted, atol=2e-5, rtol=0)
    assert encoder.fingerprint != with_positions.fingerprint
    with pytest.raises(MissingVariable, match="position_embeddings"):
        read_source(model)


def test_sequences_longer_than_the_positions(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path, **SMALL)
    encoder = load_encoder(model, max_seq_len=100, no_position_embeddings=True)
    text = "the of and " * 50
    assert encoder.tokenize([text]).cut == [0]
    wanted = rows_of(
        [of_text(text, length=100)], "REDUCE_MEAN", length=100, positions=False, config=SMALL
    )
    np.testing.assert_allclose(encoder.encode([text]), wanted, atol=2e-5, rtol=0)
    own = read_source(model, max_seq_len="none", no_position_embeddings=True).model
    assert own.max_seq_len == 48
    for length, positions in ((100, True), (2, False)):
        with pytest.raises(BadLength, match=f"max_seq_len is {length}"):
            read_source(model, max_seq_len=length, no_position_embeddings=not positions)


def test_cased_by_option(tmp_path: Path) -> None:
    texts = ["The Lord"]
    uncased = write_tiny_hf(tmp_path / "uncased_L-4", **SMALL)
    cased = write_tiny_hf(tmp_path / "cased_L-4", **SMALL)
    prints: dict[bool, set[str]] = {}
    for model, own in ((uncased, False), (cased, True)):
        for option in (None, False, True):
            found = read_source(model, cased=option).model
            kept = own if option is None else option
            pieces = found.tokens(found.tokenize(texts).ids)
            assert pieces == [of_text(texts[0], cased=kept).tokens]
            prints.setdefault(kept, set()).add(found.fingerprint)
    assert [len(found) for found in prints.values()] == [1, 1]
    assert prints[True] != prints[False]


def test_what_changes_a_row_changes_the_fingerprint(tiny_hf: Path, tiny_google: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"cased": True},
        {"mask_cls_sep": True},
        {"no_special_token": True},
        {"no_position_embeddings": True},
    ]
    prints = [read_source(tiny_hf, **option).model.fingerprint for option in options]
    assert len(set(prints)) == len(options)
    assert prints == [read_source(tiny_google, **option).model.fingerprint for option in options]


@pytest.mark.parametrize("strategy", ["CLS_TOKEN", "LAST_TOKEN", "CLS_POOLED"])
def test_what_changes_no_row_does_not(tiny_hf: Path, strategy: str) -> None:
    plain, masked = (
        read_source(tiny_hf, pooling_strategy=strategy, mask_cls_sep=masked).model.fingerprint
        for masked in (False, True)
    )
    assert masked == plain


# -- files with other names


def tuned_rows() -> Any:
    """Rows of the weights of seed 5."""
    sentences = [of_text(text) for text in TEXTS]
    return rows_of(
        sentences,
        "REDUCE_MEAN",
        variables=lambda config: tiny_variables(config, 5),
        config=SMALL,
    )


def test_tuned_google_checkpoint(tmp_path: Path) -> None:
    released = write_tiny_google(tmp_path / "uncased_L-2", **SMALL)
    (released / "bert_config.json").rename(released / "my_config.json")
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    for step, seed in ((100, 4), (200, 5)):
        save_google(tuned / f"model.ckpt-{step}", tiny_variables(TINY | SMALL, seed))
    (tuned / "checkpoint").write_text('model_checkpoint_path: "/train/model.ckpt-200"\n')
    options: dict[str, Any] = {
        "tuned_model_dir": tuned,
        "config_name": "my_config.json",
        "max_seq_len": LENGTH,
    }
    prints = []
    for name in (None, "model.ckpt-200", "model.ckpt-200.index"):
        model = read_source(released, ckpt_name=name, **options).model
        assert model.name == "tuned"
        prints.append(model.fingerprint)
    encoder = load_encoder(released, **options)
    np.testing.assert_allclose(encoder.encode(TEXTS), tuned_rows(), atol=2e-5, rtol=0)
    assert set(prints) == {encoder.fingerprint}
    earlier = read_source(released, ckpt_name="model.ckpt-100", **options).model
    assert earlier.fingerprint != encoder.fingerprint


def test_tuned_safetensors(tmp_path: Path) -> None:
    released = write_tiny_hf(tmp_path / "released", **SMALL)
    other = write_tiny_hf(tmp_path / "other", seed=5, prefix="bert.", **SMALL)
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    shutil.copy(other / "model.safetensors", tuned / "model.safetensors")
    encoder = load_encoder(released, tuned_model_dir=tuned, max_seq_len=LENGTH)
    np.testing.assert_allclose(encoder.encode(TEXTS), tuned_rows(), atol=2e-5, rtol=0)
    (tuned / "model.safetensors").rename(tuned / "best.safetensors")
    named = read_source(
        released, tuned_model_dir=tuned, ckpt_name="best.safetensors", max_seq_len=LENGTH
    )
    assert named.model.fingerprint == encoder.fingerprint
    assert named.model.fingerprint == read_source(other, max_seq_len=LENGTH).model.fingerprint


def test_tuned_weights_of_another_size(tiny_hf: Path, tmp_path: Path) -> None:
    tuned = write_tiny_hf(tmp_path, hidden_size=16)
    with pytest.raises(WrongShape, match=r"has shape \[160, 16\], the config calls for"):
        read_source(tiny_hf, tuned_model_dir=tuned)
