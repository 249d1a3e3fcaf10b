import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import Encoder, load_encoder, read_source
from bertq_bert.errors import (
    BadIds,
    BadLength,
    BadVocabulary,
    MissingFile,
    MissingVariable,
    ModelError,
    UnknownDtype,
    UnknownLayer,
    UnknownPooling,
)
from tests.bert.checkpoints import VOCABULARY, write_tiny_google, write_tiny_hf, write_vocab
from tests.bert.test_parity import sequences

TEXTS = ["the of", "and", "to in that he shall", "the [SEP] of", ""]


@pytest.fixture(scope="module")
def encoder(tiny_hf: Path) -> Encoder:
    return load_encoder(tiny_hf)


def fingerprint_of(model: Path, **options: Any) -> str:
    """Without a graph, which takes a second."""
    return read_source(model, **options).model.fingerprint


def test_attributes(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, pooling_strategy="REDUCE_MEAN_MAX", pooling_layers=[-1, -2])
    assert encoder.name == "tiny"
    assert (encoder.max_seq_len, encoder.max_batch_size) == (25, 256)
    assert encoder.pooling_strategy == "REDUCE_MEAN_MAX"
    assert encoder.pooling_layers == (-1, -2)
    assert encoder.dtype == "float32"
    assert encoder.row_shape == (128,)
    assert encoder.vocab_size == 160
    with pytest.raises(dataclasses.FrozenInstanceError):
        encoder.name = "other"  # type: ignore[misc]
    assert "_graph" not in repr(encoder)


def test_encode_is_compute_of_tokenize(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=5)
    ids = encoder.tokenize(TEXTS).ids
    assert encoder.tokens(ids) == [
        ["[CLS]", "the", "of", "[SEP]"],
        ["[CLS]", "and", "[SEP]"],
        ["[CLS]", "to", "in", "that", "[SEP]"],
        ["[CLS]", "the", "[", "s", "[SEP]"],
        ["[CLS]", "[SEP]"],
    ]
    assert [[VOCABULARY[n] for n in row] for row in ids] == encoder.tokens(ids)
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.compute(ids))
    assert encoder.encode(TEXTS).shape == (5, 32)


@pytest.mark.parametrize(
    "strategy", ["REDUCE_MEAN", "REDUCE_MAX", "SEP_TOKEN", "CLS_POOLED", "NONE"]
)
def test_rows_do_not_depend_on_their_batch(tiny_hf: Path, strategy: str) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=48, pooling_strategy=strategy)
    rows = sequences(300, 48)
    together = encoder.compute(rows)
    np.testing.assert_array_equal(encoder.compute(rows), together)
    alone = np.concatenate([encoder.compute([row]) for row in rows])
    np.testing.assert_allclose(alone, together, atol=1e-6, rtol=0)
    backwards = encoder.compute(rows[::-1])[::-1]
    np.testing.assert_allclose(backwards, together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tokens", [63, 64, 65, 511, 512, 513])
@pytest.mark.parametrize("strategy", ["REDUCE_MEAN_MAX", "weightedmean", "SEP_TOKEN", "NONE"])
def test_rows_do_not_depend_on_padding_tokens(tiny_hf: Path, strategy: str, tokens: int) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=48, pooling_strategy=strategy, pooling_layers=[-1])
    rows = [[7] * 15] * (tokens // 15) + [list(range(5, 5 + tokens % 15))]
    assert sum(map(len, rows)) == tokens
    together = encoder.run(rows)
    for row in (rows[0], rows[-1]):
        (alone,) = encoder.run([row])
        found = together[rows.index(row)][: len(alone)]  # of NONE, without the padding
        np.testing.assert_allclose(found, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "NONE"])
def test_rows_do_not_depend_on_the_batch_size(tiny_hf: Path, strategy: str) -> None:
    rows = sequences(50, 25)
    large = load_encoder(tiny_hf, pooling_strategy=strategy).compute(rows)
    small = load_encoder(tiny_hf, pooling_strategy=strategy, max_batch_size=3).compute(rows)
    np.testing.assert_allclose(small, large, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "NONE"])
def test_rows_do_not_depend_on_the_lanes(tiny_hf: Path, strategy: str) -> None:
    rows = sequences(200, 25)
    options: dict[str, Any] = {"pooling_strategy": strategy, "max_batch_size": 10}
    one = load_encoder(tiny_hf, **options)
    three = load_encoder(tiny_hf, lanes=3, **options)
    assert len(one.budget.split([len(row) for row in rows])) >= 20
    np.testing.assert_array_equal(three.compute(rows), one.compute(rows))


def test_token_vectors_of_a_fixed_length(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=10, pooling_strategy="NONE", max_batch_size=2)
    assert encoder.row_shape == (10, 32)
    rows = encoder.encode(["the", "the of and to"])
    assert rows.shape == (2, 10, 32)
    assert [np.flatnonzero(row.any(axis=1)).tolist() for row in rows] == [[0, 1, 2], [*range(6)]]


def test_token_vectors_up_to_the_longest(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len="none", pooling_strategy="NONE", max_batch_size=1)
    assert (encoder.row_shape, encoder.max_seq_len) == ((None, 32), 48)
    rows = encoder.encode(["the", "the of and to"])
    assert rows.shape == (2, 6, 32)
    assert [np.flatnonzero(row.any(axis=1)).tolist() for row in rows] == [[0, 1, 2], [*range(6)]]
    assert encoder.encode(["the " * 100]).shape == (1, 48, 32)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (0, 32)),
        ({"pooling_strategy": "NONE"}, (0, 25, 32)),
        ({"pooling_strategy": "NONE", "max_seq_len": "none"}, (0, 0, 32)),
    ],
)
def test_no_texts(tiny_hf: Path, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    encoder = load_encoder(tiny_hf, **options)
    rows = encoder.encode([])
    assert rows.shape == shape
    assert rows.dtype == np.float32
    assert encoder.tokenize([]) == ([], [])


def test_warm_up_covers_tiny_limits(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=3, max_batch_size=1)
    encoder.warm_up()
    assert encoder.encode(TEXTS[:2]).shape == (2, *encoder.row_shape)


def test_many_threads(encoder: Encoder) -> None:
    wanted = encoder.encode(TEXTS)
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(encoder.encode(TEXTS))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for rows in results:
        np.testing.assert_array_equal(rows, wanted)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[2, 3], []], "row 1 has 0 ids: give 1 to 25"),
        ([[2] * 26], "row 0 has 26 ids: give 1 to 25"),
        ([[2, 3], [2, 160]], r"row 1 has an id that is not in 0\.\.159"),
        ([[-1]], r"row 0 has an id that is not in 0\.\.159"),
    ],
)
def test_ids_out_of_range(encoder: Encoder, ids: list[list[int]], message: str) -> None:
    with pytest.raises(BadIds, match=message):
        encoder.compute(ids)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_seq_len": 49}, BadLength, r"max_seq_len is 49: .* to 48, the model's max_pos"),
        ({"max_seq_len": 2}, BadLength, r"max_seq_len is 2: give 3"),
        ({"max_batch_size": 0}, BadLength, r"max_batch_size is 0: give at least 1"),
        ({"pooling_strategy": "MEAN"}, UnknownPooling, r"'MEAN' is unknown: use one of NONE, R"),
        ({"pooling_layers": [-5]}, UnknownLayer, r"pooling layer -5 is out of range.* to -4"),
        ({"pooling_layers": [2]}, UnknownLayer, r"pooling layer 2 is out of range"),
        ({"dtype": "int8"}, UnknownDtype, r"dtype 'int8' is unknown"),
    ],
)
def test_options_that_are_refused(
    tiny_hf: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load_encoder(tiny_hf, **options)
    assert isinstance(caught.value, ModelError)
    assert "\n" not in str(caught.value)


def test_the_longest_sequence_that_the_model_has(tiny_hf: Path) -> None:
    assert load_encoder(tiny_hf, max_seq_len=48).encode(["the " * 60]).shape == (1, 32)


def test_cls_pooled_without_a_pooler(tmp_path: Path) -> None:
    from tests.bert.checkpoints import save_google, tiny_variables

    write_tiny_google(tmp_path)
    variables = {k: v for k, v in tiny_variables().items() if "pooler" not in k}
    save_google(tmp_path / "bert_model.ckpt", variables)
    with pytest.raises(MissingVariable, match="'bert/pooler/dense/kernel'"):
        load_encoder(tmp_path, pooling_strategy="CLS_POOLED")
    assert load_encoder(tmp_path).encode(["the"]).shape == (1, 32)


def test_vocabulary_of_another_model(tmp_path: Path) -> None:
    write_tiny_hf(tmp_path)
    write_vocab(tmp_path, [*VOCABULARY, *(f"more{n}" for n in range(100))])
    with pytest.raises(BadVocabulary, match="tokens, the embedding table only 160"):
        load_encoder(tmp_path)


def test_model_dir_may_be_a_string_or_a_path(tiny_hf: Path) -> None:
    found = read_source(str(tiny_hf)).model
    assert found.fingerprint == fingerprint_of(tiny_hf)
    with pytest.raises(MissingFile, match="no such model directory: /nowhere"):
        load_encoder("/nowhere")


@pytest.mark.parametrize(
    "options",
    [
        {"max_seq_len": 24},
        {"max_seq_len": "none"},
        {"max_seq_len": 48},
        {"pooling_strategy": "REDUCE_MAX"},
        {"pooling_layers": [-1]},
        {"pooling_layers": [-1, -2]},
        {"dtype": "bfloat16"},
    ],
)
def test_fingerprint_changes_with_the_options(tiny_hf: Path, options: dict[str, Any]) -> None:
    fingerprint = fingerprint_of(tiny_hf, **options)
    assert fingerprint != fingerprint_of(tiny_hf)
    others: list[dict[str, Any]] = [{"max_seq_len": "none"}, {"max_seq_len": 48}]
    assert all(fingerprint != fingerprint_of(tiny_hf, **o) for o in others if o != options)


def test_fingerprint_changes_with_the_files(
    broken_hf: Path, edit_json: Callable[..., None]
) -> None:
    seen = [fingerprint_of(broken_hf)]
    for change in (
        '{"do_lower_case": false, "strip_accents": true}',
        '{"do_lower_case": false}',
        '{"tokenize_chinese_chars": false}',
    ):
        (broken_hf / "tokenizer_config.json").write_text(change)
        seen.append(fingerprint_of(broken_hf))
    write_vocab(broken_hf, [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]])
    seen.append(fingerprint_of(broken_hf))
    edit_json(broken_hf / "config.json", hidden_act="relu")
    seen.append(fingerprint_of(broken_hf))
    write_tiny_hf(broken_hf, seed=1)
    seen.append(fingerprint_of(broken_hf))
    assert len(set(seen)) == len(seen)
    assert all(len(fingerprint) == 64 for fingerprint in seen)


def test_fingerprint_is_of_the_content(tiny_google: Path, tiny_hf: Path, tmp_path: Path) -> None:
    fingerprint = fingerprint_of(tiny_hf)
    assert fingerprint_of(tiny_google) == fingerprint
    assert fingerprint_of(tiny_hf, max_batch_size=8) == fingerprint
    (tmp_path / "elsewhere").symlink_to(tiny_hf)
    moved = load_encoder(tmp_path / "elsewhere")
    assert (moved.name, moved.fingerprint) == ("elsewhere", fingerprint)


def test_fingerprint_of_synonyms(tiny_hf: Path) -> None:
    first = read_source(tiny_hf, pooling_strategy="FIRST_TOKEN").model
    cls = read_source(tiny_hf, pooling_strategy="CLS_TOKEN").model
    assert first.fingerprint == cls.fingerprint
    assert (first.pooling_strategy, cls.pooling_strategy) == ("FIRST_TOKEN", "CLS_TOKEN")
