import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertq_bert.errors import BadVocabulary, BrokenFile, MissingFile, UnsupportedModel
from bertq_bert.tokenizing.google import GoogleTokenizer, load_tokenizer
from tests.bert import fulltokenizer
from tests.bert.checkpoints import VOCABULARY, write_vocab

SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
#: Where the `tokenizers` library's Unicode tables disagree with Python's beyond repair
#: from outside: marks and punctuation whose category changed, one new decomposition.
KNOWN = {0x1734, 0x11938, 0x166D, 0x111C9}

#: Characters that the rules treat in different ways.
ODD = (
    "aAzZ09 \t\n\r.,-_[]#'’“”«»¡¿$^`~|+<>=\x00\x07\x0b\x1c\x7f\x85\xa0\xad\u200b\u200d\u2028\u3000"
    "éÉñÅåÇıİßẞſǅﬁÀ\u0301\u0308\u05b0\u0345ΣσςΑαΐᾳ\u1e9b\u0130가힣ᄒ你好㐀豈\u2fa1\u3040のア、。！"
    "\ufffd\ufffe\ue000\ud800\udfff\u0378\u0890\u0605\U0001f600\U0001f9ff\U0002b820\U0002b91f"
    "\U0002f800\U000e0001\U0010ffff\u2e5d\u061d\u08d3\u1dfa"
)
texts = st.text(
    st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=())), max_size=40
).filter(lambda text: not KNOWN & set(map(ord, text)))


def vocabulary_of(words: list[str]) -> dict[str, int]:
    """A vocabulary with every character of `words`, so that each shows in the pieces."""
    characters = sorted(set("".join(words)))
    tokens = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    return {token: number for number, token in enumerate(tokens)}


@settings(max_examples=600)
@given(text=texts, cased=st.booleans())
def test_agrees_with_google(text: str, cased: bool) -> None:
    vocabulary = vocabulary_of(fulltokenizer.basic(text, cased=cased))
    tokenizer = GoogleTokenizer(vocabulary, cased=cased)
    assert tokenizer.wordpieces([text]) == [fulltokenizer.wordpieces(text, vocabulary, cased=cased)]


@pytest.mark.parametrize("cased", [False, True])
def test_agrees_with_google_on_every_character(cased: bool) -> None:
    skipped = {"Cn", "Co", "Cs"}  # nearly a million: the test above has some of each
    codes = [
        code
        for code in range(sys.maxunicode + 1)
        if code not in KNOWN and unicodedata.category(chr(code)) not in skipped
    ]
    texts = [f"a{chr(code)}b" for code in codes]
    words = [fulltokenizer.basic(text, cased=cased) for text in texts]
    vocabulary = vocabulary_of([word for row in words for word in row])
    tokenizer = GoogleTokenizer(vocabulary, cased=cased)
    wrong = [
        hex(code)
        for code, got, row in zip(codes, tokenizer.wordpieces(texts), words, strict=True)
        if got != [piece for word in row for piece in [word[0], *(f"##{c}" for c in word[1:])]]
    ]
    assert len(codes) > 140_000
    assert wrong == []


@settings(max_examples=200)
@given(text=st.text("abcdehnotu .,!THE", max_size=60))
def test_greedy_longest_match_as_google(text: str) -> None:
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = GoogleTokenizer(vocabulary, cased=False)
    assert tokenizer.wordpieces([text]) == [fulltokenizer.wordpieces(text, vocabulary, cased=False)]


def tiny(*, cased: bool = False, **options: Any) -> GoogleTokenizer:
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    return GoogleTokenizer(vocabulary, cased=cased, **options)


@settings(max_examples=300)
@given(text=texts, cased=st.booleans())
def test_places_of_tokens(text: str, cased: bool) -> None:
    vocabulary = vocabulary_of(fulltokenizer.basic(text, cased=cased))
    tokenizer = GoogleTokenizer(vocabulary, cased=cased)
    (found,) = tokenizer.locate([text], special_tokens=False)
    assert [token.id for token in found] == tokenizer.pieces([text])[0]
    for token in found:
        assert token.start is not None
        assert text[token.start : token.stop] == token.text
        # Each token is a character, or an unknown word.
        piece = tokenizer.token(token.id).removeprefix("##")
        if len(token.text) == 1 and piece != "[UNK]":
            assert piece in fulltokenizer.basic(f"a{token.text}", cased=cased)[-1]


def test_places_and_text_of_ids() -> None:
    tokenizer = tiny()
    (found,) = tokenizer.locate(["the caf\xe9\x00s"], special_tokens=True)
    assert (found[0].text, found[0].start, found[-1].text) == ("[CLS]", None, "[SEP]")
    ends = [(token.text, token.start, token.stop) for token in found[-3:-1]]
    assert ends == [("\xe9", 7, 8), ("s", 9, 10)]
    ids = [token.id for token in found]
    assert tokenizer.decode([ids, [10**6]], skip_special=False) == ["[CLS] the cafes [SEP]", ""]
    assert tokenizer.decode([ids], skip_special=True) == ["the cafes"]


def test_literal_special_tokens_are_text() -> None:
    assert tiny().wordpieces(["[SEP] [MASK]"]) == [
        ["[", "s", "##e", "##p", "]", "[", "m", "##a", "##s", "##k", "]"]
    ]


def test_words_over_100_characters_are_unknown() -> None:
    assert tiny().wordpieces(["x" * 100, "x" * 101]) == [["x"] + ["##x"] * 99, ["[UNK]"]]


def test_lone_surrogates_are_dropped() -> None:
    assert tiny().wordpieces(["\ud800x\udfffy"]) == [["x", "##y"]]


def test_final_sigma_is_lower_cased_as_in_python() -> None:
    tokenizer = GoogleTokenizer(vocabulary_of(["οδυσσευς", "’α"]), cased=False)
    assert tokenizer.wordpieces(["ΟΔΥΣΣΕΥΣ"])[0][-1] == "##ς"
    # the apostrophe does not end the word for lower-casing, and splits it afterwards
    assert tokenizer.wordpieces(["ΟΔΥΣ’Α"])[0][-3:] == ["##σ", "’", "α"]


def test_sequences_are_wrapped_and_cut_on_the_right() -> None:
    tokenizer = tiny()
    ([ids], cut) = tokenizer.encode(["the of and to in"], 25)
    assert cut == []
    assert tokenizer.tokens(ids) == ["[CLS]", "the", "of", "and", "to", "in", "[SEP]"]
    ([ids], cut) = tokenizer.encode(["the of and to in"], 5)
    assert cut == [0]
    assert tokenizer.tokens(ids) == ["[CLS]", "the", "of", "and", "[SEP]"]
    assert tokenizer.encode(["", " \n\x00"], 3) == ([[2, 3], [2, 3]], [])
    assert tokenizer.encode([], 3) == ([], [])


def test_a_very_long_text_is_cut() -> None:
    assert len(tiny().encode(["the " * 200_000], 40).ids[0]) == 40


@pytest.mark.parametrize(
    ("cased", "options", "pieces"),
    [
        (False, {}, ["e", "##e"]),
        (False, {"strip_accents": False}, ["[UNK]"]),
        (True, {}, ["[UNK]"]),
        (True, {"strip_accents": True}, ["[UNK]"]),
    ],
)
def test_casing_and_accents(cased: bool, options: dict[str, bool], pieces: list[str]) -> None:
    assert tiny(cased=cased, **options).wordpieces(["Éé"]) == [pieces]


def test_cjk_is_split_by_default() -> None:
    vocabulary = vocabulary_of(["好的"])
    assert GoogleTokenizer(vocabulary, cased=False).wordpieces(["好的"]) == [["好", "的"]]
    joined = GoogleTokenizer(vocabulary, cased=False, split_cjk=False)
    assert joined.wordpieces(["好的"]) == [["好", "##的"]]


@pytest.mark.parametrize(
    ("name", "cased"),
    [
        ("uncased_L-12_H-768_A-12", False),
        ("cased_L-12_H-768_A-12", True),
        ("multi_cased_L-12_H-768_A-12", True),
        ("multilingual_L-12_H-768_A-12", False),
        ("chinese_L-12_H-768_A-12", False),
        ("bert-base-uncased", False),
        ("BERT-base-Cased", True),
        ("my-model", False),
    ],
)
def test_casing_from_the_directory_name(tmp_path: Path, name: str, cased: bool) -> None:
    (tmp_path / name).mkdir()
    write_vocab(tmp_path / name)
    assert load_tokenizer(tmp_path / name).cased is cased
    assert load_tokenizer(tmp_path / name, cased=not cased).cased is not cased


def test_tokenizer_config_wins_over_the_name(tmp_path: Path) -> None:
    model = tmp_path / "cased_model"
    model.mkdir()
    write_vocab(model)
    settings = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(model)
    assert (tokenizer.cased, tokenizer.strip_accents, tokenizer.split_cjk) == (False, False, False)
    (model / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(model).cased is True


def write_tokenizer_json(path: Path, **parts: Any) -> None:
    content = {
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 128}, "pad_id": 0},
        "normalizer": {
            "type": "BertNormalizer",
            "lowercase": False,
            "strip_accents": None,
            "handle_chinese_chars": False,
        },
        "model": {
            "type": "WordPiece",
            "vocab": {token: number for number, token in enumerate(VOCABULARY)},
        },
    }
    (path / "tokenizer.json").write_text(json.dumps(content | parts))


def test_tokenizer_json_without_its_padding_and_truncation(tmp_path: Path) -> None:
    write_tokenizer_json(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.cased, tokenizer.split_cjk) == (True, False)
    assert [len(ids) for ids in tokenizer.encode(["the of and to in that"], 25).ids] == [8]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert load_tokenizer(tmp_path).cased is False


def test_vocab_txt_is_preferred(tmp_path: Path) -> None:
    write_tokenizer_json(tmp_path, model={"type": "BPE"})
    write_vocab(tmp_path)
    assert load_tokenizer(tmp_path).cased is False


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"model": {"type": "BPE"}}, UnsupportedModel, "model is BPE, BERT's is WordPiece"),
        ({"normalizer": None}, UnsupportedModel, "normalizer is None, BERT's is BertNormalizer"),
        ({"model": {"type": "WordPiece", "vocab": ["a"]}}, BrokenFile, "has no vocabulary"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, BadVocabulary, r"tokenizer.json: .*\[CLS"),
    ],
)
def test_tokenizer_json_of_another_kind(
    tmp_path: Path, parts: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_tokenizer_json(tmp_path, **parts)
    with pytest.raises(error, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("token", ["[CLS]", "[SEP]", "[UNK]"])
def test_a_vocabulary_without_special_tokens(tmp_path: Path, token: str) -> None:
    write_vocab(tmp_path, [other for other in VOCABULARY if other != token])
    with pytest.raises(BadVocabulary) as caught:
        load_tokenizer(tmp_path)
    assert f"vocab.txt: the vocabulary has no {token}" in str(caught.value)


def test_a_vocabulary_longer_than_the_embeddings(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    size = len(VOCABULARY)
    load_tokenizer(tmp_path, embeddings=size)
    with pytest.raises(BadVocabulary, match=rf"has {size} tokens, the embedding table only"):
        load_tokenizer(tmp_path, embeddings=size - 1)


def test_ids_are_line_numbers(tmp_path: Path) -> None:
    lines = ["[PAD]", "", "[UNK]\r", " [CLS] ", "[SEP]", "a", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines), newline="")
    assert load_tokenizer(tmp_path).encode(["a b"], 9).ids == [[3, 6, 2, 4]]


def test_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"no vocab.txt and no tokenizer.json in "):
        load_tokenizer(tmp_path)


def test_vocabulary_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[CLS]\n\xff\xfe\n")
    with pytest.raises(BrokenFile, match=r"vocab.txt cannot be read as UTF-8"):
        load_tokenizer(tmp_path)


def test_golden_pieces(demo_model: Path, golden: Callable[[str], list[Any]]) -> None:
    sentences = golden("sentences")
    assert load_tokenizer(demo_model).wordpieces(sentences) == golden("wordpieces_uncased")
    cased = load_tokenizer(demo_model, cased=True)
    assert cased.wordpieces(sentences) == golden("wordpieces_cased")
