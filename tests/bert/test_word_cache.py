"""A tokenizer that remembers words gives the same ids as without it."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertq_bert.tokenizing import word_cache
from bertq_bert.tokenizing.base import Text, Tokenizer
from bertq_bert.tokenizing.word_cache import WordCache, remember_words
from tests.bert.test_shortening import CHUNKS, FAR, tokenizers

CACHES = {
    name: made
    for name, tokenizer in tokenizers().items()
    if isinstance(made := remember_words(tokenizer), WordCache)
}
texts = st.lists(st.sampled_from([*CHUNKS, " ", " "]), max_size=60).map("".join)


class CountingTokenizer(WordCache):
    """Passes all calls on, and notes the texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.seen: list[str] = []

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        self.seen += texts
        return self._tokenizer.pieces(texts)


def test_which_tokenizers_remember_words() -> None:
    assert {name for name in tokenizers() if name not in CACHES} == {
        "albert-mean-old", "bert-unigram-old", "camembert-mean-old", "modernbert-mean",
        "roberta-mean", "roberta-vocab-only-old", "xlmr-mean-old",
    }  # fmt: skip
    others = {name for name, made in FAR.items() if remember_words(made) is made}
    assert others == {"unigram", "byte pairs", "words of byte pairs"}


@settings(max_examples=200)
@given(st.lists(texts, max_size=8))
def test_the_ids_are_the_same(given_texts: list[str]) -> None:
    for name, cache in CACHES.items():
        expected = tokenizers()[name].pieces(given_texts)
        assert cache.pieces(given_texts) == expected
        assert cache.pieces(given_texts) == expected, "from the cache"


@pytest.mark.parametrize("name", CACHES)
def test_all_else_is_the_same(name: str) -> None:
    cache, plain = CACHES[name], tokenizers()[name]
    pairs: list[Text] = [("the lord and a lord", "of the lord"), ("a", ""), "x " * 300]
    for truncate in ("right", "left"):
        kept = [made.encode(pairs, 16, truncate=truncate) for made in (cache, plain)]
        assert kept[0] == kept[1]
        assert [vars(row) for row in kept[0].ids[:1]] == [vars(row) for row in kept[1].ids[:1]]
    assert cache.identity() == plain.identity()
    assert cache.locate(["the lord"], special_tokens=True) == plain.locate(
        ["the lord"], special_tokens=True
    )
    assert cache.look_up([["the", "?"]], 8) == plain.look_up([["the", "?"]], 8)
    (ids,) = plain.pieces(["the lord"])
    assert cache.tokens(ids) == plain.tokens(ids)
    assert cache.decode([ids], skip_special=True) == plain.decode([ids], skip_special=True)


def test_each_word_is_tokenized_once() -> None:
    counting = CountingTokenizer(tokenizers()["google"])
    cache = WordCache(counting)
    cache.pieces(["the lord", "the  lord "])
    assert sorted(counting.seen) == ["lord", "the"]
    cache.pieces(["lord the the"])
    assert len(counting.seen) == 2


def test_texts_of_unknown_words_are_tokenized_whole() -> None:
    counting = CountingTokenizer(tokenizers()["google"])
    cache = WordCache(counting)
    new = [f"word{number} more{number}" for number in range(100)]
    cache.pieces(new)
    assert len(counting.seen) < 200
    assert new[-1] in counting.seen
    # One unknown word among known ones is tokenized alone.
    del counting.seen[:]
    cache.pieces(["the of and"])
    cache.pieces([*new, "the of and strange"])
    assert "strange" in counting.seen


def test_a_full_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "_MAX_WORDS", 50)
    counting = CountingTokenizer(tokenizers()["google"])
    cache = WordCache(counting)
    for number in range(40):
        text = f"the x{number} y{number}"
        assert cache.pieces([text]) == tokenizers()["google"].pieces([text])
    assert 1 < counting.seen.count("the") < 10


def test_long_words_are_not_remembered() -> None:
    counting = CountingTokenizer(tokenizers()["google"])
    cache = WordCache(counting)
    for _ in range(2):
        cache.pieces(["the " + "long" * 10])
    assert counting.seen.count("long" * 10) == 2
