"""The options of bert-as-service 1.10 against independent references: tokens, rows, files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertq_bert import POOLING_STRATEGIES, load_encoder, read_source
from bertq_bert.errors import BadLength, BadOption, MissingVariable, NoPairs, WrongShape
from bertq_bert.sequences import trimmed
from tests.bert import fulltokenizer
from tests.bert.checkpoints import (
    TINY,
    VOCABULARY,
    save_google,
    tiny_variables,
    write_tiny_google,
    write_tiny_hf,
)
from tests.bert.reference import Reference

LENGTH = 12
IDS = {token: number for number, token in enumerate(VOCABULARY)}

#: Pairs and single sentences, some of them too long, some without a token.
TEXTS = [
    "the lord",
    "the lord ||| of him",
    "he shall not ||| be in the of and to in that he shall unto",
    "he shall unto the of and to in that they ||| i",
    "in that he shall unto the lord they be is him not them",
    "a ||| b ||| c",
    "  of him ||| the lord\n",
    "\x00\x01 ||| they",
    "they ||| \x00",
    "they |||",
    "||| they",
    "they|||him",
    "\x00",
]


def pieces(text: str) -> list[str]:
    return fulltokenizer.wordpieces(text, IDS, cased=False)


def longer_popped(first: list[str], second: list[str], room: int, end: str) -> None:
    """`_truncate_seq_pair` of google-research/bert, word for word but for the end."""
    index = 0 if end == "left" else -1
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop(index)


def tokens_of(
    first: list[str], second: list[str], *, end: str = "right", bare: bool = False
) -> tuple[list[str], list[int], list[int]]:
    """Tokens, segments, and 1 for each that was not added, as bert-as-service makes them."""
    first, second = list(first), list(second)
    added = [] if bare else ["[SEP]"]
    if second:
        longer_popped(first, second, LENGTH - (0 if bare else 3), end)
    else:
        room = LENGTH - (0 if bare else 2)
        first = first[-room:] if end == "left" else first[:room]
    start = [] if bare else ["[CLS]"]
    tokens = [*start, *first, *added]
    own = [*[0] * len(start), *[1] * len(first), *[0] * len(added)]
    segments = [0] * len(tokens)
    if second:
        tokens += [*second, *added]
        segments += [1] * (len(second) + len(added))
        own += [*[1] * len(second), *[0] * len(added)]
    return tokens, segments, own


def expected_tokens(text: str, **options: Any) -> tuple[list[str], list[int], list[int]]:
    match = re.match(r"^(.*) \|\|\| (.*)$", text.strip(), re.DOTALL)
    first, second = match.groups() if match else (text, "")
    return tokens_of(pieces(first), pieces(second), **options)


def reference(made: Sequence[tuple[list[str], list[int], list[int]]], **options: Any) -> Reference:
    """The layers of sentences; ``mask`` leaves out what was added."""
    mask = options.pop("mask", False)
    variables = options.pop("variables", None) or tiny_variables()
    ids = [[IDS.get(token, IDS["[UNK]"]) for token in tokens] for tokens, _, _ in made]
    own = [row for _, _, row in made] if mask else None
    segments = [row for _, row, _ in made]
    return Reference(TINY, variables, ids, LENGTH, segments=segments, pooled=own, **options)


@pytest.mark.parametrize("end", ["right", "left"])
def test_tokens_of_pairs(tiny_hf: Path, end: str) -> None:
    model = read_source(tiny_hf, max_seq_len=LENGTH).model
    found = model.tokenize(TEXTS, truncate=end)
    wanted = [expected_tokens(text, end=end)[0] for text in TEXTS]
    assert model.tokens(found.ids) == wanted
    whole = read_source(tiny_hf, max_seq_len=None).model.tokenize(TEXTS).ids
    longer = [row for row, ids in enumerate(whole) if len(ids) > LENGTH]
    assert found.cut == longer
    assert longer == [2, 3, 4]


@pytest.mark.parametrize("strategy", POOLING_STRATEGIES[:9])
@pytest.mark.parametrize("mask", [False, True])
def test_pairs_among_others(tiny_hf: Path, strategy: str, mask: bool) -> None:
    encoder = load_encoder(
        tiny_hf, max_seq_len=LENGTH, pooling_strategy=strategy, mask_cls_sep=mask
    )
    rows = encoder.encode(TEXTS)
    made = [expected_tokens(text) for text in TEXTS]
    wanted = reference(made, mask=mask).rows(strategy, [-2])
    assert rows.shape == wanted.shape
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)
    for text, row in zip(TEXTS, rows, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], row, atol=1e-6, rtol=0)


def test_segments_matter(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=LENGTH)
    ids = encoder.tokenize(["the lord ||| of him"]).ids
    assert np.abs(encoder.compute(ids) - encoder.compute([list(ids[0])])).max() > 1e-2


def test_in_bfloat16(tiny_hf: Path) -> None:
    exact = load_encoder(tiny_hf, max_seq_len=LENGTH).encode(TEXTS)
    rows = load_encoder(tiny_hf, max_seq_len=LENGTH, dtype="bfloat16").encode(TEXTS)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((rows * exact).sum(1) / norms).min() > 0.999


TOKENIZED = [
    ["the", "lord"],
    ["the", "Lord", "##x", "[SEP]", "him"],
    ["of", "|||", "him", "not"],
    ["of", "|||"],
    ["|||", "him"],
    ["a", "|||", "b", "|||", "c"],
    list("abcdefghijklmnop"),
    [*"abcdefgh", "|||", *"ijklm"],
]


@pytest.mark.parametrize("end", ["right", "left"])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_tokens_as_they_are(tiny_hf: Path, bare: bool, mask: bool, end: str) -> None:
    encoder = load_encoder(
        tiny_hf,
        max_seq_len=LENGTH,
        no_special_token=bare,
        mask_cls_sep=mask,
        pooling_strategy="NONE",
    )
    found = encoder.tokenize(TOKENIZED, is_tokenized=True, truncate=end)
    sides = [row[: row.index("|||")] if "|||" in row else row for row in TOKENIZED]
    others = [row[row.index("|||") + 1 :] if "|||" in row else [] for row in TOKENIZED]
    made = [
        tokens_of(first, second, end=end, bare=bare)
        for first, second in zip(sides, others, strict=True)
    ]
    wanted = [[t if t in IDS else "[UNK]" for t in tokens] for tokens, _, _ in made]
    assert encoder.tokens(found.ids) == wanted
    assert found.cut == [6, 7]
    rows = encoder.compute(found.ids)
    expected = reference(made, mask=mask).rows("NONE", [-2])
    np.testing.assert_allclose(rows, expected, atol=2e-5, rtol=0)


def test_a_bar_alone(tiny_hf: Path) -> None:
    for bare, wanted in ((False, ["[CLS]", "[SEP]"]), (True, ["[UNK]"])):
        model = read_source(tiny_hf, no_special_token=bare).model
        assert model.tokens(model.tokenize([["|||"]], is_tokenized=True).ids) == [wanted]


def test_text_has_its_special_tokens_all_the_same(tiny_hf: Path) -> None:
    plain, bare = (read_source(tiny_hf, no_special_token=value).model for value in (False, True))
    assert plain.tokenize(TEXTS) == bare.tokenize(TEXTS)
    assert plain.fingerprint != bare.fingerprint


@pytest.mark.parametrize("first", range(12))
def test_the_longer_side_gives_way(first: int) -> None:
    for second in range(12):
        for room in range(24):
            one, other = ["a"] * first, ["b"] * second
            longer_popped(one, other, room, "right")
            assert trimmed(first, second, room) == (len(one), len(other))


def test_no_room_for_a_pair(tiny_hf: Path) -> None:
    model = read_source(tiny_hf, max_seq_len=3).model
    assert model.tokens(model.tokenize(["the ||| of", "the"]).ids) == [
        ["[CLS]", "[SEP]", "[SEP]"],
        ["[CLS]", "the", "[SEP]"],
    ]


def test_a_model_without_a_second_segment(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path, type_vocab_size=1)
    encoder = load_encoder(model, max_seq_len=LENGTH)
    assert encoder.encode(["the lord"]).shape == (1, 32)
    with pytest.raises(NoPairs, match=r"row 1 is a pair of sentences, and this model has one"):
        encoder.tokenize(["the lord", "secret ||| words"])


def test_without_positions(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path)
    made = [expected_tokens(text) for text in TEXTS]
    wanted = reference(made, positions=False).rows("REDUCE_MEAN", [-2])
    with_positions = load_encoder(model, max_seq_len=LENGTH)
    # Neither the checkpoint needs them, nor is there an end to them.
    tensors = load_file(model / "model.safetensors")
    del tensors["embeddings.position_embeddings.weight"]
    save_file(tensors, model / "model.safetensors")
    encoder = load_encoder(model, max_seq_len=LENGTH, no_position_embeddings=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), wanted, atol=2e-5, rtol=0)
    assert encoder.fingerprint != with_positions.fingerprint
    long = load_encoder(model, max_seq_len=100, no_position_embeddings=True)
    assert long.tokenize(["the " * 200]).cut == [0]
    assert np.isfinite(long.encode(["the " * 200])).all()
    with pytest.raises(BadLength, match="max_seq_len is 100"):
        read_source(model, max_seq_len=100)


# -- fine-tuned heads


def tuned_variables(labels: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    size = TINY["hidden_size"]
    return tiny_variables() | {
        "output_weights": rng.standard_normal((labels, size)).astype(np.float32),
        "output_bias": rng.standard_normal(labels).astype(np.float32),
    }


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with a head of three labels, in both layouts."""
    root = tmp_path_factory.mktemp("tuned")
    google = write_tiny_google(root / "google")
    save_google(google / "bert_model.ckpt", tuned_variables(3))
    hugging_face = write_tiny_hf(root / "hf", prefix="bert.")
    tensors = load_file(hugging_face / "model.safetensors")
    head = {"classifier.weight": "output_weights", "classifier.bias": "output_bias"}
    tensors |= {theirs: tuned_variables(3)[name] for theirs, name in head.items()}
    save_file(tensors, hugging_face / "model.safetensors")
    return {"google": google, "hf": hugging_face}


@pytest.mark.parametrize("layout", ["google", "hf"])
@pytest.mark.parametrize("strategy", ["CLASSIFICATION", "REGRESSION"])
def test_heads(tuned: dict[str, Path], layout: str, strategy: str) -> None:
    encoder = load_encoder(tuned[layout], max_seq_len=LENGTH, pooling_strategy=strategy)
    rows = encoder.encode(TEXTS)
    made = [expected_tokens(text) for text in TEXTS]
    wanted = reference(made, variables=tuned_variables(3)).rows(strategy, [-1])
    assert rows.shape == (len(TEXTS), 3) == (len(TEXTS), *encoder.row_shape)
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)
    for text, row in zip(TEXTS, rows, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], row, atol=1e-6, rtol=0)


def test_a_head_is_part_of_the_model(tuned: dict[str, Path], tiny_hf: Path) -> None:
    prints = {
        read_source(model, pooling_strategy=strategy, num_labels=labels).model.fingerprint
        for model in tuned.values()
        for strategy, labels in (("CLASSIFICATION", None), ("CLASSIFICATION", 3))
    }
    assert len(prints) == 1
    regression = read_source(tuned["hf"], pooling_strategy="REGRESSION").model.fingerprint
    assert regression not in prints
    plain = {read_source(model).model.fingerprint for model in (*tuned.values(), tiny_hf)}
    assert len(plain) == 1


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"num_labels": 2}, BadOption, "num_labels is 2, and strategy REDUCE_MEAN has no labels"),
        ({"pooling_strategy": "REGRESSION", "num_labels": 0}, BadOption, "give at least 1"),
        (
            {"pooling_strategy": "REGRESSION", "num_labels": 2},
            WrongShape,
            r"'classifier.weight' has shape \[3, 32\], the config calls for \[2, 32\]",
        ),
    ],
)
def test_wrong_labels(
    tuned: dict[str, Path], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_source(tuned["hf"], **options)


def test_a_model_without_a_head(tiny_hf: Path) -> None:
    with pytest.raises(MissingVariable, match=r"'classifier.weight': it was not tuned"):
        read_source(tiny_hf, pooling_strategy="CLASSIFICATION")


# -- what is part of a model's name


def test_what_changes_a_row_changes_the_fingerprint(tiny_hf: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"cased": True},
        {"mask_cls_sep": True},
        {"no_special_token": True},
        {"no_position_embeddings": True},
    ]
    prints = [read_source(tiny_hf, **option).model.fingerprint for option in options]
    assert len(set(prints)) == len(options)
    # Where it changes none, it is the same model.
    same: list[dict[str, Any]] = [{}, {"mask_cls_sep": True}]
    assert (
        len(
            {
                read_source(tiny_hf, pooling_strategy="CLS_TOKEN", **option).model.fingerprint
                for option in same
            }
        )
        == 1
    )


def test_cased_by_option(tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path / "uncased_L-4")
    texts = ["The Lord"]
    assert read_source(model).model.wordpieces(texts) == [["[CLS]", "the", "lord", "[SEP]"]]
    cased = read_source(model, cased=True).model.wordpieces(texts)
    assert cased == [["[CLS]", "[UNK]", "[UNK]", "[SEP]"]]
    other = write_tiny_hf(tmp_path / "cased_L-4")
    assert read_source(other).model.wordpieces(texts) == cased
    assert read_source(other, cased=False).model.wordpieces(texts)[0][1] == "the"
