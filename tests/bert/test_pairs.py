"""Pairs of sentences, and tokens as they are, against bert-as-service's rules and numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertq_bert import POOLING_STRATEGIES, load_encoder, read_source
from bertq_bert.errors import BadIds, NoPairs
from bertq_bert.model import Model
from bertq_bert.tokenizing.google import GoogleTokenizer
from bertq_bert.tokenizing.sequences import Ids, marks, trim_like_google
from tests.bert.checkpoints import VOCABULARY, write_tiny_hf
from tests.bert.sentences import (
    IDS,
    LENGTH,
    SMALL,
    TEXTS,
    TOKENIZED,
    Sentence,
    of_text,
    of_tokens,
    rows_of,
    truncate_pair,
)

ENDS = ["right", "left"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_hf(tmp_path_factory.mktemp("pairs"), **SMALL)


@pytest.fixture(scope="module")
def model(small: Path) -> Model:
    return read_source(small, max_seq_len=LENGTH).model


def segments_of(ids: list[int]) -> list[int]:
    second = ids.second if isinstance(ids, Ids) else len(ids)
    return [int(place >= second) for place in range(len(ids))]


def compare(model: Model, found: list[list[int]], cut: list[int], wanted: list[Sentence]) -> None:
    assert model.tokens(found) == [sentence.tokens for sentence in wanted]
    assert [segments_of(ids) for ids in found] == [sentence.segments for sentence in wanted]
    assert cut == [row for row, sentence in enumerate(wanted) if sentence.cut]


@pytest.mark.parametrize("end", ENDS)
def test_tokens_of_texts(model: Model, end: str) -> None:
    found = model.tokenize(TEXTS, truncate=end)
    compare(model, found.ids, found.cut, [of_text(text, end=end) for text in TEXTS])
    assert found.cut == [2, 3, 4]
    pairs = [row for row, ids in enumerate(found.ids) if isinstance(ids, Ids)]
    assert pairs == [1, 2, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("bare", [False, True])
def test_tokens_as_they_are(small: Path, bare: bool, end: str) -> None:
    model = read_source(small, max_seq_len=LENGTH, no_special_token=bare).model
    found = model.tokenize(TOKENIZED, is_tokenized=True, truncate=end)
    wanted = [of_tokens(tokens, end=end, bare=bare) for tokens in TOKENIZED]
    compare(model, found.ids, found.cut, wanted)
    assert found.cut == [8, 9]


words = st.sampled_from(["the", "of him", "lord ", "abc", "|||", " ||| ", " ||| ", "\n", "\x00"])


@settings(max_examples=300)
@given(
    texts=st.lists(st.lists(words, max_size=9), max_size=3),
    length=st.integers(3, 16),
    end=st.sampled_from(ENDS),
)
def test_any_texts(texts: list[list[str]], length: int, end: str) -> None:
    tokenizer = GoogleTokenizer(IDS, cased=False)
    lines = ["".join(text) for text in texts]
    found = tokenizer.encode([tokenizer.split(line) for line in lines], length, truncate=end)
    wanted = [of_text(line, length=length, end=end) for line in lines]
    assert [tokenizer.tokens(ids) for ids in found.ids] == [row.tokens for row in wanted]
    assert [segments_of(ids) for ids in found.ids] == [row.segments for row in wanted]
    assert found.cut == [row for row, sentence in enumerate(wanted) if sentence.cut]


@settings(max_examples=300)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["the", "|||", "nothing", "[SEP]"]), min_size=2, max_size=20),
        max_size=3,
    ),
    length=st.integers(3, 16),
    end=st.sampled_from(ENDS),
    bare=st.booleans(),
)
def test_any_tokens(texts: list[list[str]], length: int, end: str, bare: bool) -> None:
    tokenizer = GoogleTokenizer(IDS, cased=False)
    found = tokenizer.look_up(texts, length, truncate=end, bare=bare)
    wanted = [of_tokens(tokens, length=length, end=end, bare=bare) for tokens in texts]
    assert [tokenizer.tokens(ids) for ids in found.ids] == [row.tokens for row in wanted]
    assert [segments_of(ids) for ids in found.ids] == [row.segments for row in wanted]
    assert found.cut == [row for row, sentence in enumerate(wanted) if sentence.cut]
    own = [mark < 2 for mark in marks(found.ids)]
    assert own == [one for sentence in wanted for one in sentence.own]


@pytest.mark.parametrize("first", range(12))
def test_the_longer_side_gives_way(first: int) -> None:
    for second in range(12):
        for max_tokens in range(24):
            one, other = ["a"] * first, ["b"] * second
            truncate_pair(one, other, max_tokens)
            assert trim_like_google(first, second, max_tokens) == (len(one), len(other))


def test_a_length_too_short_for_a_pair(small: Path) -> None:
    model = read_source(small, max_seq_len=3).model
    found = model.tokenize(["the ||| of", "the"])
    assert model.tokens(found.ids) == [["[CLS]", "[SEP]"], ["[CLS]", "the", "[SEP]"]]
    assert found.cut == [0]


def test_a_bar_alone(small: Path) -> None:
    for bare, wanted in ((False, ["[CLS]", "[SEP]"]), (True, ["[UNK]"])):
        model = read_source(small, no_special_token=bare).model
        assert model.tokens(model.tokenize([["|||"]], is_tokenized=True).ids) == [wanted]


def test_a_text_gets_its_special_tokens(small: Path, model: Model) -> None:
    bare = read_source(small, max_seq_len=LENGTH, no_special_token=True).model
    found, wanted = bare.tokenize(TEXTS), model.tokenize(TEXTS)
    assert found == wanted
    assert [segments_of(ids) for ids in found.ids] == [segments_of(ids) for ids in wanted.ids]


def test_a_very_long_pair_is_cut(model: Model) -> None:
    ids, cut = model.tokenize(["the " * 100_000 + "||| " + "of " * 100_000])
    assert model.tokens(ids) == [
        ["[CLS]", *["the"] * 5, "[SEP]", *["of"] * 4, "[SEP]"],
    ]
    assert cut == [0]


def test_a_model_without_a_second_segment(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path, type_vocab_size=1, **SMALL)
    encoder = load_encoder(model, max_seq_len=LENGTH)
    config = SMALL | {"type_vocab_size": 1}
    wanted = rows_of([of_text("the lord")], "REDUCE_MEAN", config=config)
    np.testing.assert_allclose(encoder.encode(["the lord"]), wanted, atol=2e-5, rtol=0)
    for texts, tokenized in (
        (["the lord", "secret ||| words"], False),
        ([["the", "lord"], ["secret", "|||", "words"]], True),
    ):
        with pytest.raises(NoPairs, match=r"row 1 is a pair of sentences, and this") as caught:
            encoder.tokenize(texts, is_tokenized=tokenized)
        assert "secret" not in str(caught.value)
        assert isinstance(caught.value, BadIds)


def test_more_segments_than_two(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path, type_vocab_size=4, **SMALL)
    rows = load_encoder(model, max_seq_len=LENGTH).encode(TEXTS)
    config = SMALL | {"type_vocab_size": 4}
    wanted = rows_of([of_text(text) for text in TEXTS], "REDUCE_MEAN", config=config)
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("strategy", POOLING_STRATEGIES[:9])
@pytest.mark.parametrize("masked", [False, True])
def test_rows_of_pairs_among_others(small: Path, strategy: str, masked: bool) -> None:
    encoder = load_encoder(
        small, max_seq_len=LENGTH, pooling_strategy=strategy, mask_cls_sep=masked
    )
    rows = encoder.encode(TEXTS)
    wanted = rows_of([of_text(text) for text in TEXTS], strategy, masked=masked, config=SMALL)
    assert rows.shape == wanted.shape
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, rows, atol=1e-6, rtol=0)
    many = encoder.encode(TEXTS * 20)[-len(TEXTS) :]
    np.testing.assert_allclose(many, rows, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("strategy", ["REDUCE_MEAN_MAX", "NONE"])
def test_rows_of_tokens(small: Path, strategy: str, bare: bool) -> None:
    encoder = load_encoder(
        small,
        max_seq_len=LENGTH,
        pooling_strategy=strategy,
        no_special_token=bare,
        mask_cls_sep=True,
    )
    rows = encoder.compute(encoder.tokenize(TOKENIZED, is_tokenized=True).ids)
    sentences = [of_tokens(tokens, bare=bare) for tokens in TOKENIZED]
    wanted = rows_of(sentences, strategy, masked=True, config=SMALL)
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)


def test_a_row_of_special_tokens_only(small: Path) -> None:
    for strategy in ("REDUCE_MEAN_MAX", "NONE"):
        encoder = load_encoder(small, pooling_strategy=strategy, mask_cls_sep=True)
        assert not encoder.encode(["\x00\x07", "the"])[0].any()
        assert not encoder.encode(["\x00\x07"]).any()


def test_segments_matter(small: Path) -> None:
    encoder = load_encoder(small, max_seq_len=LENGTH)
    (pair,) = encoder.tokenize(["the lord ||| of him"]).ids
    assert np.abs(encoder.compute([pair]) - encoder.compute([list(pair)])).max() > 1e-2


def test_half_precision(small: Path) -> None:
    masked: dict[str, Any] = {"mask_cls_sep": True, "pooling_strategy": "REDUCE_MAX"}
    for options in ({}, masked):
        texts = TEXTS[:10]  # the last one has nothing that is not masked
        exact = load_encoder(small, max_seq_len=LENGTH, **options).encode(texts)
        rows = load_encoder(small, max_seq_len=LENGTH, dtype="bfloat16", **options).encode(texts)
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(exact, axis=1)
        assert ((rows * exact).sum(1) / norms).min() > 0.999
        assert np.abs(rows - exact).max() > 1e-5, "this was float32"


def test_marks() -> None:
    pair = Ids([2, 7, 3, 8, 8, 3], second=3, added=(0, 2, 5))
    bare = Ids([7, 8], second=1)
    prompt = Ids([2, 9, 7, 3], second=4, added=(0, 3), prompt=2)
    rows = [[2, 9, 3], pair, [2], bare, prompt]
    assert [*marks(rows)] == [2, 0, 2, 2, 0, 2, 1, 1, 3, 2, 0, 1, 6, 4, 0, 2]
    assert VOCABULARY[2:4] == ["[CLS]", "[SEP]"]
