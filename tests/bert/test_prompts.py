"""Which prompt a request gets, and which ranges int8 rows have."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import load_encoder, read_source
from bertq_bert.errors import BadOption, BrokenFile, UnknownPrompt, UnsuitedRows
from tests.bert.test_sentence_transformers import Copy
from tests.bert.test_sentence_transformers import copied as copied

CONFIG = "config_sentence_transformers.json"


def prompted(copied: Copy, prompts: dict[str, str], default: str | None) -> Any:
    path = copied("bert-mean")
    values = {"prompts": prompts, "default_prompt_name": default}
    (path / CONFIG).write_text(json.dumps(values))
    return read_source(path).model


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document", "plain"),
    [
        ({"query": "q: ", "document": "d: "}, None, "q: ", "d: ", None),
        ({"query": "q: "}, "query", "q: ", "", "q: "),
        ({"passage": "p: ", "other": "o: "}, "other", "", "p: ", "o: "),
        ({"corpus": "c: "}, None, "", "c: ", None),
        ({}, None, "", "", None),
    ],
)
def test_queries_and_documents(
    copied: Copy,
    prompts: dict[str, str],
    default: str | None,
    query: str,
    document: str,
    plain: str | None,
) -> None:
    model = prompted(copied, prompts, default)
    assert model.prompt_text(input_type="query") == query
    assert model.prompt_text(input_type="document") == document
    assert model.prompt_text() == plain
    assert model.prompt_text(prompt="own: ") == "own: "
    for name, text in prompts.items():
        assert model.prompt_text(prompt_name=name) == text
    for wrong in (
        {"prompt_name": "none"},
        {"input_type": "none"},
        {"prompt": "", "prompt_name": "q"},
    ):
        with pytest.raises(UnknownPrompt):
            model.prompt_text(**wrong)


def ranges(path: Path, width: int, **values: Any) -> Path:
    rows = [[-1.0] * width, [1.0] * width]
    path.write_text(json.dumps({"ranges": rows, **values}))
    return path


def test_ranges_belong_to_a_model(copied: Copy, tmp_path: Path) -> None:
    path, file = copied("bert-mean"), tmp_path / "ranges.json"
    plain = read_source(path).model
    own = read_source(path, int8_ranges=ranges(file, 24, model=plain.fingerprint)).model
    assert own.fingerprint != plain.fingerprint
    assert "int8 ranges of 24 dimensions" in own.description
    shorter = load_encoder(path, int8_ranges=ranges(file, 8))
    assert shorter.encode(["a"], dimensions=8, precision="int8").dtype == np.int8
    for wrong in ({"precision": "int8"}, {"dimensions": 0}, {"dimensions": 25}):
        with pytest.raises(UnsuitedRows):
            shorter.encode(["a"], **wrong)
    for options in ({"width": 24, "model": "other"}, {"width": 25}):
        with pytest.raises(BadOption, match="another model"):
            read_source(path, int8_ranges=ranges(file, **options))
    with pytest.raises(BadOption, match="sparse"):
        read_source(copied("splade-bert"), int8_ranges=ranges(file, 24))
    file.write_text("{}")
    with pytest.raises(BrokenFile, match="ranges"):
        read_source(path, int8_ranges=file)


def test_a_pointer_of_git_lfs(copied: Copy) -> None:
    path = copied("bert-mean")
    (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(BrokenFile, match="Git LFS pointer"):
        read_source(path)


def test_contradicting_settings_are_reported(
    copied: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    path = copied("bert-mean")
    with caplog.at_level(logging.WARNING, "bertq.model"):
        read_source(path)
        assert caplog.messages == []
        file = path / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": False}))
        model = read_source(path).model
    (message,) = caplog.messages
    assert "do_lower_case" in message
    assert model.tokens(model.tokenize(["A"]).ids) == [["[CLS]", "a", "[SEP]"]]
