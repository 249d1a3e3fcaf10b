"""A damaged directory is read, or refused with a ModelError that names one of its files."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertq_bert import ModelError, read_source
from bertq_bert.errors import BrokenFile

MODELS = Path(__file__).parents[1] / "data" / "models"

#: Directories that have every kind of file between them.
NAMES = (
    "albert-groups",
    "bert-added-token-old",
    "bert-dense-tanh",
    "bert-folder-old",
    "bert-layernorm-old",
    "bert-prompt-old",
    "bert-shards",
    "bert-vocab-only-old",
    "cross-bert-identity-young",
    "cross-xlmr-old",
    "distilbert-dense-old",
    "electra-wide",
    "gte-cls-norm",
    "modernbert-layers-old",
    "mpnet-vocab-only-old",
    "nomic-mean-norm",
    "roberta-vocab-only-old",
    "splade-bert",
    "xlmr-prompt-left-out",
)

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 7, 2**24, 2**31, 2**63, 2**64, 10**40, 10**400]),
    st.sampled_from([0.0, 0.5, -1.5, 1e30, 1e308, float("nan"), float("inf"), float("-inf")]),
    st.sampled_from(["", "x", "../x", "/etc", "\x00", "\ud800", "a" * 5000, "two\nlines", "é"]),
    st.sampled_from(
        [[], {}, [[]], [{}], {"": None}, [None], ["x"], {"x": {"x": []}}, [1, "a", {}], {"type": 1}]
    ),
)
BYTES = st.sampled_from([b"", b"\x00", b"\xff\xfe", b"{", b"[" * 100_000, b"1" * 10_000, b"\n" * 9])


@settings(max_examples=600, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_json_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory, path = copy(tmp_path_factory, data, ".json")
    content = path.read_bytes()
    how = data.draw(st.sampled_from(["value", "value", "value", "value", "cut", "bytes", "none"]))
    if how == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif how == "bytes":
        path.write_bytes(data.draw(BYTES))
    elif how == "none":
        path.unlink()
    else:
        path.write_text(json.dumps(changed(json.loads(content), data)))
    check(directory, data)


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory, path = copy(tmp_path_factory, data, ".safetensors", ".txt")
    content = bytearray(path.read_bytes())
    how = data.draw(st.sampled_from(["cut", "zero", "flip", "none"]))
    place = data.draw(
        st.integers(0, min(len(content), data.draw(st.sampled_from([99, 10**9]))) - 1)
    )
    if how == "cut":
        del content[place:]
    elif how == "zero":
        content[place : place + 100] = bytes(len(content[place : place + 100]))
    elif how == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    if how == "none":
        path.unlink()
    check(directory, data)


def copy(factory: pytest.TempPathFactory, data: st.DataObject, *kinds: str) -> tuple[Path, Path]:
    """Copy one of ``NAMES``; return it, and one of its files of these kinds."""
    # one place for all examples, since hypothesis may run thousands
    directory = factory.getbasetemp() / "damaged"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(MODELS / data.draw(st.sampled_from(NAMES)), directory)
    files = sorted(path for path in directory.rglob("*") if path.suffix in kinds)
    return directory, data.draw(st.sampled_from(files))


def changed(value: Any, data: st.DataObject) -> Any:
    """``value`` with one of the values inside it replaced or left out."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 4)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.integers(0, 4)):
            value[key] = changed(value[key], data)
        else:
            del value[key]
        return value
    return data.draw(JUNK)


def check(directory: Path, data: st.DataObject) -> None:
    compat = data.draw(st.sampled_from([None, None, "bert-as-service"]))
    try:
        read_source(directory, compat=compat)
    except ModelError as error:
        message = str(error)
        assert "\n" not in message
        assert str(directory) in message
        assert len(message) < 1000


def test_a_log_line_escapes_values_of_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(MODELS / "bert-added-token-old", directory)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"strip_accents": "\ud800"}))
    read_source(directory)
    assert "strip_accents" in caplog.text
    assert caplog.text.encode()  # which half a surrogate pair does not allow


@pytest.mark.parametrize(
    ("dtype", "bits", "is_read"),
    [
        ("F64", 64, True),
        ("F16", 16, True),
        ("BF16", 16, True),
        ("I64", 64, False),
        ("U8", 8, False),
        ("BOOL", 8, False),
        ("C64", 64, False),
        ("F8_E4M3", 8, False),
        ("F4", 4, False),
        ("NEW", 8, False),
    ],
)
def test_weights_of_other_dtypes(tmp_path: Path, dtype: str, bits: int, is_read: bool) -> None:
    directory = tmp_path / "model"
    shutil.copytree(MODELS / "bert-mean", directory)
    path = directory / "model.safetensors"
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, offset = json.loads(content[8:end]), 0
    header.pop("__metadata__", None)
    for tensor in header.values():
        size = math.prod(tensor["shape"]) * bits // 8
        tensor |= {"dtype": dtype, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))
    if is_read:
        assert set(read_source(directory).weights["embeddings/word_embeddings"].flat) == {0.0}
    else:
        with pytest.raises(BrokenFile, match=rf"model.safetensors.*{dtype}"):
            read_source(directory)
