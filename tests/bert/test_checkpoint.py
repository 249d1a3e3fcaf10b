import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertq_bert.checkpoint import Weights, read_weights
from bertq_bert.directory.layout import find_model
from bertq_bert.errors import BrokenFile, MissingVariable, ModelError, WrongShape
from bertq_bert.families import read_config
from bertq_bert.variables import Parts
from tests.bert.checkpoints import (
    TINY,
    Variables,
    hf_to_google,
    save_google,
    tiny_variables,
    write_tiny_google,
    write_tiny_hf,
)


def read(directory: Path, *, pooler: bool = True) -> Weights:
    files = find_model(directory)
    return read_weights(files, *read_config(files.config), Parts(pooler))


def assert_tiny(weights: Weights) -> None:
    expected = {name.removeprefix("bert/"): array for name, array in tiny_variables().items()}
    assert weights.keys() == expected.keys()
    for name, array in weights.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_google(tiny_google: Path) -> None:
    assert_tiny(read(tiny_google))


def test_optimizer_slots_and_heads_are_left_alone(tmp_path: Path) -> None:
    write_tiny_google(tmp_path)
    extra: Variables = tiny_variables()
    extra["bert/pooler/dense/kernel/adam_m"] = np.zeros((32, 32), np.float32)
    extra["cls/predictions/output_bias"] = np.zeros(9, np.float32)
    extra["output_weights"] = np.zeros((2, 32), np.float32)
    extra["global_step"] = np.array(7, np.int64)
    save_google(tmp_path / "bert_model.ckpt", extra)
    assert_tiny(read(tmp_path))


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("norm", ["weight", "gamma"])
def test_hugging_face_names(tmp_path: Path, prefix: str, norm: str) -> None:
    write_tiny_hf(tmp_path, prefix=prefix)
    tensors = load_file(tmp_path / "model.safetensors")
    if norm == "gamma":
        tensors = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): array
            for name, array in tensors.items()
        }
        assert f"{prefix}embeddings.LayerNorm.gamma" in tensors
    tensors["cls.predictions.bias"] = np.zeros(3, np.float32)
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(48)
    save_file(tensors, tmp_path / "model.safetensors")
    assert_tiny(read(tmp_path))


def test_demo_model_is_the_same_in_both_layouts(demo_model: Path, demo_google: Path) -> None:
    google, hugging_face = read(demo_google), read(demo_model)
    assert google.keys() == hugging_face.keys()
    assert len(google) == 5 + 6 * 16 + 2
    for name, array in google.items():
        np.testing.assert_array_equal(array, hugging_face[name], err_msg=name)


def test_rewriting_keeps_the_weights(tiny_hf: Path, tmp_path: Path) -> None:
    assert_tiny(read(hf_to_google(tiny_hf, tmp_path / "google")))


def test_the_pooler_is_read_only_where_it_is_needed(broken_hf: Path) -> None:
    rewrite(broken_hf, lambda tensors: tensors.pop("pooler.dense.weight"))
    assert len(read(broken_hf, pooler=False)) == 5 + 4 * 16
    with pytest.raises(MissingVariable, match=r"has no variable 'pooler.dense.weight'"):
        read(broken_hf)


def rewrite(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")


def test_float16_weights_become_float32(broken_hf: Path) -> None:
    before = read(broken_hf)
    rewrite(broken_hf, lambda t: t.update({k: v.astype(np.float16) for k, v in t.items()}))
    for name, array in read(broken_hf).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, before[name].astype(np.float16).astype(np.float32))


def test_bfloat16_weights_become_float32(broken_hf: Path) -> None:
    before = read(broken_hf)
    write_bfloat16(broken_hf / "model.safetensors")
    for name, array in read(broken_hf).items():
        assert array.dtype == np.float32
        cut = (before[name].view(np.uint32) & 0xFFFF0000).view(np.float32)
        np.testing.assert_array_equal(array, cut)


def write_bfloat16(path: Path) -> None:
    """Write the float32 tensors of a safetensors file again, each cut to its upper 16 bits."""
    header, data = {}, b""
    for name, array in load_file(path).items():
        raw = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_integer_weights_are_refused(broken_hf: Path) -> None:
    name = "encoder.layer.1.output.dense.weight"
    rewrite(broken_hf, lambda tensors: tensors.update({name: tensors[name].astype(np.int8)}))
    with pytest.raises(BrokenFile, match=rf"variable '{name}' is I8"):
        read(broken_hf)


def test_missing_variable_is_named(tmp_path: Path) -> None:
    write_tiny_google(tmp_path)
    variables = tiny_variables()
    name = "bert/encoder/layer_2/attention/self/key/bias"
    del variables[name]
    save_google(tmp_path / "bert_model.ckpt", variables)
    with pytest.raises(MissingVariable, match=rf"bert_model.ckpt has no variable '{name}'"):
        read(tmp_path)


def test_wrong_shape_names_the_variable_and_both_shapes(tiny_google: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_google, model)
    (model / "bert_config.json").write_text(json.dumps(TINY | {"vocab_size": 200}))
    message = r"'bert/embeddings/word_embeddings' has shape \[160, 32\], .* for \[200, 32\]"
    with pytest.raises(WrongShape, match=message):
        read(model)


def test_wrong_shape_in_hugging_face_orientation(broken_hf: Path) -> None:
    def flip(tensors: dict[str, Any]) -> None:
        name = "encoder.layer.0.intermediate.dense.weight"
        tensors[name] = np.ascontiguousarray(tensors[name].T)

    rewrite(broken_hf, flip)
    message = r"layer.0.intermediate.dense.weight' has shape \[32, 64\], .* calls for \[64, 32\]"
    with pytest.raises(WrongShape, match=message):
        read(broken_hf)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_infinite_weights_are_refused(broken_hf: Path, value: float) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        tensors["encoder.layer.3.output.dense.bias"][5] = value

    rewrite(broken_hf, spoil)
    with pytest.raises(BrokenFile, match=r"'encoder.layer.3.output.dense.bias' has numbers"):
        read(broken_hf)


@pytest.mark.parametrize("size", [0, 4, 100, 5_000, -1])
def test_cut_safetensors(broken_hf: Path, size: int) -> None:
    path = broken_hf / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BrokenFile, match=r"/model.safetensors cannot be read as") as caught:
        read(broken_hf)
    assert "\n" not in str(caught.value)


def test_safetensors_of_noise(broken_hf: Path) -> None:
    (broken_hf / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(BrokenFile, match=r"/model.safetensors cannot be read as"):
        read(broken_hf)


INDEX = "bert_model.ckpt.index"
DATA = "bert_model.ckpt.data-00000-of-00001"


@pytest.mark.parametrize(
    ("name", "size"),
    [(DATA, 0), (DATA, 10_000), (DATA, -1), (INDEX, 0), (INDEX, 100), (INDEX, -1)],
)
def test_cut_google_checkpoint(tmp_path: Path, name: str, size: int) -> None:
    write_tiny_google(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    assert_broken(tmp_path)


def test_google_checkpoint_without_data(tmp_path: Path) -> None:
    write_tiny_google(tmp_path)
    (tmp_path / DATA).unlink()
    assert_broken(tmp_path)


def test_google_checkpoint_with_a_flipped_bit(tmp_path: Path) -> None:
    write_tiny_google(tmp_path)
    content = bytearray((tmp_path / DATA).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / DATA).write_bytes(content)
    assert_broken(tmp_path)


def assert_broken(model: Path) -> None:
    with pytest.raises(ModelError, match=r"bert_model.ckpt.index and .*data.* cannot") as caught:
        read(model)
    assert "\n" not in str(caught.value)
