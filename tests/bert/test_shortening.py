"""Long texts are shortened before they are tokenized, and their ids stay the same."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer

from bertq_bert.tokenizing import shortening
from bertq_bert.tokenizing.base import Tokenizer
from bertq_bert.tokenizing.google import load_tokenizer
from bertq_bert.tokenizing.shipped import ShippedTokenizer, load_shipped

MODELS = Path(__file__).parents[1] / "data" / "models"

#: A directory for each kind of tokenizer.
NAMES = (
    "albert-mean-old",
    "bert-added-token",
    "bert-added-token-old",
    "bert-cls-old",
    "bert-lower-in-st-old",
    "bert-mean",
    "bert-unigram-old",
    "bert-vocab-only-old",
    "camembert-mean-old",
    "electra-mean",
    "modernbert-mean",
    "mpnet-mean-norm-old",
    "mpnet-vocab-only-old",
    "roberta-mean",
    "roberta-vocab-only-old",
    "xlmr-mean-old",
)


@functools.cache
def tokenizers() -> dict[str, Tokenizer]:
    found: dict[str, Tokenizer] = {name: load_shipped(MODELS / name) for name in NAMES}
    found["google"] = load_tokenizer(MODELS / "bert-mean")
    return found


def assert_same_ids(tokenizer: Tokenizer, text: str, tokens: int, truncate: str) -> None:
    """The ids that are kept are those of the whole text, and so is whether it is cut."""
    (whole,) = tokenizer.pieces([text])
    (ids,), (count,) = shortening.pieces(tokenizer, [text], tokens, truncate)
    if len(whole) <= tokens:
        assert (ids, count) == (whole, len(whole))
        return
    assert count > tokens
    if truncate == "left":
        assert ids[-tokens:] == whole[-tokens:]
    else:
        assert ids[:tokens] == whole[:tokens]


#: Parts of the texts: words, parts of words, other scripts, marks, special tokens.
CHUNKS = (
    *("a", "x", "ha", "abc", "the ", "lord", "unto ", "ing", "and of ", "x-", "12", "don't", "..."),
    *(
        "日本",
        "中",
        "가",
        "👩\u200d👩\u200d👧",
        "e\u0301",
        "\u0301",
        "é",
        "Σ",
        "İ",
        "\u00ad",
        "\u200b",
    ),
    *(" ", "  ", "\n", "\t", "\u3000", "\x1f", "[SEP]", "</s>", "<s>", "<mask>", "[Q]"),
)
runs = st.builds(
    lambda parts, times: "".join(parts) * times,
    st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=3),
    st.integers(1, 900),
)
mixed = st.lists(st.sampled_from(CHUNKS), max_size=40).map(lambda parts: "".join(parts) * 20)
long_texts = st.lists(st.one_of(runs, mixed), min_size=1, max_size=4).map("".join)


@settings(max_examples=40)
@given(
    text=long_texts,
    tokens=st.sampled_from([1, 3, 8, 25, 64]),
    truncate=st.sampled_from(["right", "left"]),
)
def test_the_ids_are_those_of_the_whole_text(text: str, tokens: int, truncate: str) -> None:
    for tokenizer in tokenizers().values():
        assert_same_ids(tokenizer, text, tokens, truncate)


@settings(max_examples=15)
@given(
    first=long_texts,
    second=long_texts,
    length=st.sampled_from([6, 16, 40]),
    truncate=st.sampled_from(["right", "left"]),
)
def test_pairs_of_long_texts(first: str, second: str, length: int, truncate: str) -> None:
    for tokenizer in tokenizers().values():
        (row,), cut = tokenizer.encode([(first, second)], length, truncate=truncate)
        left, right = tokenizer.pieces([first, second])
        max_tokens = length - tokenizer.template.pair_size
        keep, other = tokenizer.trim(len(left), len(right), max_tokens)
        if not right and not tokenizer.pairs_with_nothing:
            continue
        ends = slice(None, keep), slice(None, other)
        if truncate == "left":
            ends = slice(len(left) - keep, None), slice(len(right) - other, None)
        assert row == tokenizer.template.double(left[ends[0]], right[ends[1]])
        assert cut == ([0] if len(left) + len(right) > max_tokens else [])


# --- tokenizers whose tokens depend on distant text


def made(model: dict[str, Any], **parts: Any) -> ShippedTokenizer:
    content = {"version": "1.0", "added_tokens": [], "model": model} | parts
    rust = RustTokenizer.from_str(json.dumps(content))
    return ShippedTokenizer(rust, unknown=None, identity="")


def repeating_unigram() -> ShippedTokenizer:
    """Runs of one letter are divided by three; the remainder may be anywhere."""
    vocabulary = [["<unk>", 0.0], ["▁", -5.0], ["a", -3.0], ["aa", -5.5], ["aaa", -2.0]]
    vocabulary += [["b", -3.0], ["ab", -4.0], ["abab", -6.0], ["ababab", -5.0]]
    return made(
        {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False},
        pre_tokenizer={
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "always",
            "split": True,
        },
    )


def repeating_byte_pairs(**parts: Any) -> ShippedTokenizer:
    """Runs are merged in twos and fours from their beginning; ``parts`` may leave spaces inside."""
    merges = [["a", "a"], ["aa", "aa"], ["aaaa", "aaaa"], ["a", "b"], ["ab", "ab"], [" ", "a"]]
    tokens = ["a", "b", "x", "-", " ", *("".join(pair) for pair in merges)]
    return made(
        {"type": "BPE", "vocab": {token: n for n, token in enumerate(tokens)}, "merges": merges},
        **parts,
    )


def long_words() -> ShippedTokenizer:
    """A word of more than 100 letters is one unknown token, shorter ones one for each letter."""
    tokens = ["[UNK]", "x", "##x", "-", "a"]
    return made(
        {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: n for n, token in enumerate(tokens)},
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
    )


FAR = {
    "unigram": repeating_unigram(),
    "byte pairs": repeating_byte_pairs(),
    "words of byte pairs": repeating_byte_pairs(pre_tokenizer={"type": "WhitespaceSplit"}),
    "long words": long_words(),
}


def test_which_tokenizers_split_at_spaces() -> None:
    assert all(tokenizer.splits_at_spaces for tokenizer in tokenizers().values())
    assert {name for name, made in FAR.items() if not made.splits_at_spaces} == {"byte pairs"}


@settings(max_examples=300)
@given(
    text=st.lists(
        st.builds(
            lambda chunk, times: chunk * times,
            st.sampled_from(["a", "ab", "ba", "x", "x-", "-", "aab", " ", "a "]),
            st.one_of(st.integers(1, 200), st.integers(1, 5000)),
        ),
        min_size=1,
        max_size=6,
    ).map("".join),
    tokens=st.sampled_from([1, 3, 8, 25]),
    truncate=st.sampled_from(["right", "left"]),
    name=st.sampled_from(sorted(FAR)),
)
def test_tokens_that_depend_on_distant_text(
    text: str, tokens: int, truncate: str, name: str
) -> None:
    assert_same_ids(FAR[name], text, tokens, truncate)


@pytest.mark.parametrize("letters", [33, 60, 99, 100, 101, 150, 5000])
@pytest.mark.parametrize("before", [0, 3])
def test_a_cut_inside_a_word(letters: int, before: int) -> None:
    """The part of a word that is read is short enough for tokens, and the word is not."""
    tokens, words = 20, ("y" * 300 + "-") * before
    size = (tokens + 64) * 16  # of the first part
    start = max(0, size - len(words) - 60)
    assert_same_ids(
        long_words(), words + "y" * start + "-" + "x" * letters + "-y" * 5000, tokens, "right"
    )


# --- input of the tokenizer


class Counted:
    """Counts the characters that a tokenizer gets."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.splits_at_spaces = tokenizer.splits_at_spaces
        self.characters = 0

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        self.characters += sum(map(len, texts))
        return self.tokenizer.pieces(texts)


@pytest.mark.parametrize("truncate", ["right", "left"])
@pytest.mark.parametrize("text", ["日本語の長い文" * 600_000, "and the lord said " * 200_000])
def test_a_very_long_text_is_not_tokenized_whole(text: str, truncate: str) -> None:
    for name, tokenizer in tokenizers().items():
        counted = Counted(tokenizer)
        (ids,), (count,) = shortening.pieces(counted, [text], 25, truncate)
        assert min(len(ids), count) > 25, name
        assert counted.characters < 50_000, name


def test_short_texts_are_tokenized_once() -> None:
    for tokenizer in tokenizers().values():
        counted = Counted(tokenizer)
        texts = ["the lord", "", "x" * 300]
        assert shortening.pieces(counted, texts, 25, "right")[0] == tokenizer.pieces(texts)
        assert counted.characters == 308
    assert shortening.pieces(counted, [], 25, "right") == ([], [])
