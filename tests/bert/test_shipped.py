"""The tokenizer that a directory ships, of any kind."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertq_bert import ModelError, read_source
from bertq_bert.errors import (
    BadIds,
    BadVocabulary,
    BrokenFile,
    MissingFile,
    UnsupportedModel,
)
from bertq_bert.tokenizing.shipped import ShippedTokenizer, load_shipped
from tests.bert.test_shortening import NAMES

MODELS = Path(__file__).parents[1] / "data" / "models"

load = functools.cache(lambda name: load_shipped(MODELS / name))

TokenizerJson = Callable[..., Path]


@pytest.fixture
def tokenizer_json(tmp_path: Path) -> TokenizerJson:
    """Write a ``tokenizer.json``; return its directory."""

    def write(model: object, **parts: Any) -> Path:
        content = {"version": "1.0", "added_tokens": [], "model": model} | parts
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        return tmp_path

    return write


def ids(tokenizer: ShippedTokenizer, *texts: Any, length: int = 96) -> list[list[int]]:
    return [list(row) for row in tokenizer.encode(list(texts), length).ids]


# --- the tokenizers of tests/data/models


@pytest.mark.parametrize("name", NAMES)
def test_every_token_is_found_by_its_text_and_its_id(name: str) -> None:
    tokenizer = load(name)
    assert len(tokenizer.vocabulary) > 300
    for token, number in tokenizer.vocabulary.items():
        assert tokenizer.look_up_token(token) == number
        assert tokenizer.token(number) == token
    assert tokenizer.token(10**6) == ""


@pytest.mark.parametrize("name", NAMES)
def test_places_of_tokens(name: str) -> None:
    tokenizer, text = load(name), "The light, na\xefve \u4f60\u597d \U0001f600 of the harbour"
    (found,), (bare,) = (tokenizer.locate([text], special_tokens=flag) for flag in (True, False))
    assert [token.id for token in found] == ids(tokenizer, text)[0]
    assert [token for token in found if token.start is not None] == bare
    assert all(text[token.start : token.stop] == token.text for token in bare)
    assert tokenizer.pieces([text]) == [[token.id for token in bare]]
    assert "harbour" in "".join(token.text for token in bare[-9:])
    (row,) = ids(tokenizer, "the light of the harbour")
    assert tokenizer.decode([row, []], skip_special=True)[0].strip() == "the light of the harbour"
    first = tokenizer.token(row[0])
    assert tokenizer.decode([row], skip_special=False)[0].startswith(first)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_as_input(name: str) -> None:
    """Tokens are looked up as they are; others are the unknown token, ``|||`` divides a pair."""
    tokenizer = load(name)
    words = tokenizer.wordpieces(["the lord said unto moses"])[0]
    (row,), cut = tokenizer.look_up([words], 96)
    assert ([*row], cut) == (ids(tokenizer, "the lord said unto moses")[0], [])
    (row,), _ = tokenizer.look_up([["a token that is nowhere"]], 96)
    unknown = row[len(tokenizer.template.before)]
    assert tokenizer.token(unknown) in ("[UNK]", "<unk>")
    (pair,), _ = tokenizer.look_up([[*words, "|||", *words]], 96)
    whole, _ = tokenizer.encode([("the lord said unto moses",) * 2], 96)
    assert [*pair] == [*whole[0]]
    (row,), cut = tokenizer.look_up([words], tokenizer.template.size + 2)
    assert (len(row), cut) == (tokenizer.template.size + 2, [0])
    assert tokenizer.look_up([words], 3, bare=True).ids == [tokenizer.look_up([words], 96).ids[0]
            [len(tokenizer.template.before) :][:3]]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_lone_surrogates(name: str) -> None:
    """They are no characters, and no reason to fail."""
    tokenizer = load(name)
    rows = ids(tokenizer, "the lord", "\ud800", "a\udfffb", ("\ud800", "x\ud800"), "the lord")
    assert rows[0] == rows[4] == ids(tokenizer, "the lord")[0]
    assert all(len(row) >= tokenizer.template.size for row in rows)
    assert tokenizer.look_up([["\ud800"]], 96).ids[0] is not None


@settings(max_examples=60)
@given(text=st.text(st.characters(exclude_categories=()), max_size=60))
def test_unusual_texts(text: str) -> None:
    for name in NAMES:
        tokenizer = load(name)
        (row,) = ids(tokenizer, text, length=24)
        assert len(row) <= 24
        assert all(0 <= number < 500 for number in row)


@pytest.mark.parametrize("name", NAMES)
def test_the_prompts_tokens(name: str) -> None:
    """A prompt is put before the text as it is, and its tokens are marked where that is asked."""
    tokenizer = load(name)
    plain, _ = tokenizer.encode(["ask: the lord"], 96)
    prompted, _ = tokenizer.encode(["the lord"], 96, prompt="ask: ")
    assert [*prompted[0]] == [*plain[0]]
    ((marked,), _) = tokenizer.encode(["the lord"], 96, prompt="ask: ", mark_prompt=True)
    alone, _ = tokenizer.encode(["ask: "], 96)
    assert getattr(marked, "prompt") == len(alone[0]) - len(tokenizer.template.behind)  # noqa: B009


# --- other kinds


def test_word_level(tokenizer_json: TokenizerJson) -> None:
    path = tokenizer_json(
        {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"},
        pre_tokenizer={"type": "Whitespace"},
    )
    tokenizer = load_shipped(path)
    assert ids(tokenizer, "a b  c", ("a", "b")) == [[0, 1, 2], [0, 1]]
    assert tokenizer.template.size == 0, "no post-processor"
    assert tokenizer.look_up_token("zzz") == 2


def test_byte_pairs_with_a_normalizer_that_prepends(tokenizer_json: TokenizerJson) -> None:
    """As SentencePiece's byte pairs come out of transformers: spaces are parts of tokens."""
    path = tokenizer_json(
        {
            "type": "BPE",
            "vocab": {"▁": 0, "a": 1, "▁a": 2, "<unk>": 3, "▁a▁a": 4},
            "merges": [["▁", "a"], ["▁a", "▁a"]],
            "unk_token": "<unk>",
        },
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
    )
    tokenizer = load_shipped(path)
    assert ids(tokenizer, "a", "a a", "a a a", "ab") == [[2], [4], [4, 2], [2, 3]]
    assert not tokenizer.splits_at_spaces
    (row,), cut = tokenizer.encode(["a " * 50_000], 10)
    assert (row, cut) == ([4] * 10, [0])


def test_no_token_for_unknown_ones(tokenizer_json: TokenizerJson) -> None:
    path = tokenizer_json({"type": "BPE", "vocab": {"a": 0}, "merges": []})
    tokenizer = load_shipped(path)
    assert ids(tokenizer, "ab") == [[0]]
    with pytest.raises(BadIds, match="not in the vocabulary"):
        tokenizer.look_up([["b"]], 9)


def test_padding_and_truncation_of_the_tokenizer_are_ignored(tmp_path: Path) -> None:
    for name in ("bert-mean", "xlmr-mean-old", "roberta-mean"):
        content = json.loads((MODELS / name / "tokenizer.json").read_text())
        content["truncation"] = {
            "direction": "Left",
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
        }
        content["padding"] = {
            "strategy": {"Fixed": 30},
            "direction": "Left",
            "pad_to_multiple_of": 8,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        }
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        text = "and the lord said unto moses"
        assert ids(load_shipped(tmp_path), text) == ids(load(name), text)


POST = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
MODEL = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "b"}


@pytest.mark.parametrize(
    ("model", "parts", "error", "message"),
    [
        ({"type": "Phonetic"}, {}, BrokenFile, "cannot be read by the tokenizers library"),
        ({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}, {}, BrokenFile, "cannot be read"),
        ({"type": "BPE"}, {}, BrokenFile, "cannot be read"),
        (None, {}, BrokenFile, "cannot be read"),
        (MODEL, {"normalizer": {"type": "Unknown"}}, BrokenFile, "cannot be read"),
        (MODEL, {"version": "7.0"}, BrokenFile, "cannot be read"),
        # a special token that is not there makes the library panic
        (
            MODEL,
            {"post_processor": POST | {"single": [{"SpecialToken": {"id": "x", "type_id": 0}}]}},
            BrokenFile,
            "cannot be read by the tokenizers library",
        ),
        (
            MODEL,
            {
                "normalizer": {
                    "type": "Replace",
                    "pattern": {"Regex": "."},
                    "content": "",
                }
            },
            UnsupportedModel,
            "makes no token of the letter a",
        ),
        (MODEL | {"unk_token": ""}, {}, BrokenFile, "Missing .* token from the vocabulary"),
        (MODEL | {"vocab": {"a": 0, "b": 999}}, {}, BadVocabulary, "1000 tokens, .* only 500"),
    ],
)
def test_broken_tokenizers(
    tokenizer_json: TokenizerJson,
    model: object,
    parts: dict[str, Any],
    error: type[ModelError],
    message: str,
) -> None:
    path = tokenizer_json(model, **parts)
    with pytest.raises(error, match=rf"tokenizer.json.*{message}") as caught:
        load_shipped(path, embeddings=500)
    assert "\n" not in str(caught.value)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"no tokenizer.json and no vocab.txt in "):
        load_shipped(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").touch()
    with pytest.raises(UnsupportedModel, match=r"sentencepiece.bpe.model and no tokenizer.json"):
        load_shipped(tmp_path)


def test_case(tmp_path: Path) -> None:
    cased, uncased = load("bert-cls-old"), load("bert-mean")
    text = "The LORD said É"
    kept = load_shipped(MODELS / "bert-mean", cased=True)
    assert ids(kept, text) != ids(uncased, text)
    assert ids(kept, text.lower().replace("é", "e")) == ids(uncased, text)
    assert ids(load_shipped(MODELS / "bert-cls-old", cased=False), text) != ids(cased, text)
    with pytest.raises(UnsupportedModel, match=r"cased has no meaning"):
        load_shipped(MODELS / "xlmr-mean-old", cased=True)


# --- vocab.txt


def without_tokenizer_json(tmp_path: Path, name: str = "bert-vocab-only-old") -> Path:
    return Path(shutil.copytree(MODELS / name, tmp_path / name))


@pytest.mark.parametrize("blank", ["\n", "\n\n\n", "\n \n\t\n", "\n" * 2000])
@pytest.mark.parametrize("compat", [None, "bert-as-service"])
def test_blank_last_lines(tmp_path: Path, blank: str, compat: str | None) -> None:
    """Google's loader reads a blank line as an empty token, which no text has."""
    path = without_tokenizer_json(tmp_path)
    before = read_source(path, compat=compat).model
    file = path / "vocab.txt"
    file.write_text(file.read_text(encoding="utf-8") + blank, encoding="utf-8")
    after = read_source(path, compat=compat).model
    texts = ["the lord said", "", "  ", "ж", ("a", "b")]
    assert after.tokenize(texts).ids == before.tokenize(texts).ids


def test_a_blank_line_in_between_has_a_number(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n\n[CLS]\n[SEP]\na\n")
    assert ids(load_shipped(tmp_path), "a b") == [[2, 4, 0, 3]]


def test_added_tokens_beside_vocab_txt(tmp_path: Path) -> None:
    path = without_tokenizer_json(tmp_path)
    size = len(load_shipped(path).vocabulary)
    (path / "added_tokens.json").write_text(json.dumps({"[Q]": size, "[D]": size + 1}))
    tokenizer = load_shipped(path)
    (row,) = ids(tokenizer, "[Q]the[D]")
    assert row[1] == size
    assert row[-2] == size + 1
    (path / "added_tokens.json").write_text(json.dumps({"[Q]": size + 5}))
    with pytest.raises(BadVocabulary, match=rf"the id of '\[Q\]' is {size + 5}, .*{size}"):
        load_shipped(path)
    for wrong in ({"[Q]": "5"}, {"\ud800": size}):
        (path / "added_tokens.json").write_text(json.dumps(wrong))
        with pytest.raises(BrokenFile, match=r"added_tokens.json is not a map"):
            load_shipped(path)


@pytest.mark.parametrize("lines", [["a", "b"], ["[CLS]", "[SEP]", "a"], []])
def test_a_vocabulary_without_special_tokens(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(lines))
    with pytest.raises(BadVocabulary, match=r"vocab.txt has no .*\[UNK\]"):
        load_shipped(tmp_path)


def test_byte_pairs_of_two_files(tmp_path: Path) -> None:
    path = without_tokenizer_json(tmp_path, "roberta-vocab-only-old")
    assert not (path / "tokenizer.json").exists()
    (path / "merges.txt").write_text("#version: 0.2\nno merge at all here\n")
    with pytest.raises(BrokenFile, match=r"vocab.json and merges.txt cannot be read"):
        load_shipped(path)
    (path / "merges.txt").unlink()
    with pytest.raises(MissingFile, match=r"no tokenizer.json"):
        load_shipped(path)
