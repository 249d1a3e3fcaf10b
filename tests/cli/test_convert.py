"""``bertq convert``, with a ``torch`` that the tests put in its child's way."""

import json
import os
import signal
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import load_file

from bertq.errors import BertqError, SettingsError
from bertq_cli.commands.convert import ConversionFailed, convert
from tests.cli.runs import Run
from tests.waiting import eventually

#: Reads JSON where the real one reads a pickle.
FAKE = """
import ctypes, http.client, json, os, signal, time

__version__ = "2.13.0+cpu"
strided, sparse = "strided", "sparse"


class Tensor:
    def __init__(self, dtype, shape, data, layout="strided"):
        self.dtype, self.shape, self.layout = f"torch.{dtype}", tuple(shape), layout
        self.data = (ctypes.c_char * len(data)).from_buffer_copy(data)

    def numel(self):
        count = 1
        for size in self.shape:
            count *= size
        return count

    def element_size(self):
        return len(self.data) // self.numel() if self.numel() else 4

    def contiguous(self):
        return self

    def data_ptr(self):
        return ctypes.addressof(self.data)


def load(path, *, map_location, weights_only):
    assert (map_location, weights_only) == ("cpu", True)
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    with open(path) as file:
        document = json.load(file)
    if "raise" in document:
        raise RuntimeError(document["raise"])
    if "signal" in document:
        os.kill(os.getpid(), document["signal"])
    if "sleep" in document:
        time.sleep(document["sleep"])
    if "list" in document:
        return []
    known = {}
    for name, value in document.items():
        if isinstance(value, str):  # shares memory with another
            known[name] = known[value]
        elif isinstance(value, list):
            known[name] = Tensor(value[0], value[1], bytes.fromhex(value[2]), *value[3:])
        else:
            known[name] = value
    return known
"""

PLAIN = {"a": ["float32", [2], np.array([1, 2], np.float32).tobytes().hex()]}


@pytest.fixture
def torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the child import this ``torch``; the fixture itself provides a working one."""
    place = tmp_path / "packages"
    place.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(place))

    def put(text: str) -> None:
        (place / "torch.py").write_text(text)

    put(FAKE)
    return put


@pytest.fixture
def model(tmp_path: Path, torch: Callable[[str], None]) -> Path:
    """A directory without weights."""
    directory = tmp_path / "a model"
    directory.mkdir()
    return directory


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(convert, list(map(str, arguments)), env={"COLUMNS": "200"})
    if isinstance(done.exception, BertqError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def dtypes(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def test_every_tensor_keeps_its_name_type_and_numbers(model: Path) -> None:
    numbers: Mapping[str, Any] = {
        "count": np.array([7], np.int64),
        "double": np.array([[0.1, 0.2]]),
        "empty": np.zeros((0, 4), np.float32),
        "half": np.array([1, 2, 3], np.float16),
        "scalar": np.float32(3),
        "whole": np.arange(6, dtype=np.float32).reshape(2, 3),
    }
    stored: dict[str, object] = {
        name: [str(array.dtype), array.shape, array.tobytes().hex()]
        for name, array in numbers.items()
    }
    stored |= {"brain": ["bfloat16", [1], "803f"], "tied": "whole"}
    source = write(model / "pytorch_model.bin", stored)
    source.chmod(0o640)
    output_text = run(model)
    assert output_text == f"written     {model}/model.safetensors: 8 tensors, 0.0 MiB\n"
    made = model / "model.safetensors"
    assert names(model) == ["model.safetensors", "pytorch_model.bin"]
    assert stat.S_IMODE(made.stat().st_mode) == 0o640
    assert dtypes(made) == {
        "brain": "BF16", "count": "I64", "double": "F64", "empty": "F32", "half": "F16",
        "scalar": "F32", "tied": "F32", "whole": "F32",
    }  # fmt: skip
    with safe_open(made, "np") as file:
        for name, array in {**numbers, "tied": numbers["whole"]}.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        assert file.get_slice("scalar").get_shape() == []


def test_the_weights_of_modules_too(model: Path) -> None:
    write(model / "modules.json", [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}])
    write(model / "pytorch_model.bin", PLAIN)
    write(model / "2_Dense" / "pytorch_model.bin", PLAIN)
    write(model / "3_Other" / "pytorch_model.bin", PLAIN)  # no module
    output_text = run(model)
    assert [line.split()[2] for line in output_text.splitlines()] == [
        "model/2_Dense/model.safetensors:", "model/model.safetensors:",
    ]  # fmt: skip
    assert load_file(model / "2_Dense" / "model.safetensors")["a"].tolist() == [1, 2]
    assert not (model / "3_Other" / "model.safetensors").exists()
    # Only the missing packages.
    (model / "2_Dense" / "model.safetensors").unlink()
    before = (model / "model.safetensors").stat().st_mtime_ns
    assert run(model).count("written") == 1
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def shards(model: Path, *, complete: bool = True) -> None:
    write(model / "pytorch_model-00001-of-00002.bin", PLAIN)
    write(model / "pytorch_model-00002-of-00002.bin", {"b" if complete else "c": PLAIN["a"]})
    listed = {"b": "pytorch_model-00002-of-00002.bin", "a": "pytorch_model-00001-of-00002.bin"}
    write(model / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": listed})


def test_shards_stay_shards(model: Path) -> None:
    shards(model)
    output_text = run(model)
    assert output_text == f"written     {model}/model.safetensors.index.json: 2 tensors, 0.0 MiB\n"
    assert json.loads((model / "model.safetensors.index.json").read_text()) == {
        "metadata": {"total_size": 16},
        "weight_map": {
            "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
        },
    }  # fmt: skip
    assert list(load_file(model / "model-00002-of-00002.safetensors")) == ["b"]


def test_a_shard_that_lacks_a_tensor(model: Path) -> None:
    shards(model, complete=False)
    before = names(model)
    with pytest.raises(ConversionFailed, match=r"pytorch_model-00002-of-00002\.bin has no tensor"):
        run(model)
    assert names(model) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "raise ImportError('no', name='torch')",
            r"torch is not installed for .*\n +python3 -m venv torch-env && torch-env/bin/pip "
            r"install torch\n +bertq convert '.*/a model' --python torch-env/bin/python$",
        ),
        ("__version__ = '2.5.1'", r"^torch 2\.5\.1 of .* 2\.6 or newer is needed"),
        ("__version__ = '2.10.0'; load = 1", "cannot be read: .*TypeError"),
        ("raise OSError('broken')", "the conversion failed: OSError: broken"),
    ],
)
def test_errors_of_torch(model: Path, torch: Callable[[str], None], text: str, reason: str) -> None:
    write(model / "pytorch_model.bin", PLAIN)
    torch(text)
    with pytest.raises(ConversionFailed, match=reason):
        run(model)
    assert names(model) == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"raise": "Weights only load failed. Set weights_only to False\nelse"}, r"of torch$"),
        ({"raise": "failed. GLOBAL posix.system whose"}, r"more than tensors \(posix\.system\)"),
        ({"raise": "unexpected EOF, expected 9 more bytes. The"}, r"RuntimeError: unexpected EOF"),
        ({"list": 1}, "holds no tensors by name"),
        ({}, "holds no tensors by name"),
        ({"a": {"b": 1}}, "'a' is a dict"),
        ({"a": ["float32", [1], "00000000", "sparse"]}, "safetensors cannot hold: 'a'"),
        ({"a": ["complex64", [1], "0000000000000000"]}, "safetensors cannot hold: 'a'"),
        ({"signal": signal.SIGKILL}, "ended by SIGKILL"),
    ],
)
def test_files_without_weights(model: Path, document: dict[str, object], reason: str) -> None:
    write(model / "pytorch_model.bin", document)
    with pytest.raises(ConversionFailed, match=reason) as caught:
        run(model)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert names(model) == ["pytorch_model.bin"]


INDEX = "pytorch_model.bin.index.json"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no pytorch_model.bin in"),
        ({"pytorch_model.bin": {}, "model.safetensors": {}}, "nothing to do: .*safetens.* exists"),
        ({"model.safetensors.index.json": {}}, "nothing to do"),
        ({"modules.json": "{", "pytorch_model.bin": {}}, r"modules\.json cannot be read"),
        ({"modules.json": [{"path": "../x"}], "pytorch_model.bin": {}}, "a folder that cannot"),
        ({"modules.json": [{"path": "/x"}], "pytorch_model.bin": {}}, "a folder that cannot"),
        ({"modules.json": [1], "pytorch_model.bin": {}}, "a folder that cannot"),
        ({INDEX: []}, "cannot be read"),
        ({INDEX: {"weight_map": {}}}, "does not say in which file"),
        ({INDEX: {"weight_map": {"a": "../x.bin"}}}, "does not say in which file"),
        ({INDEX: {"weight_map": {"a": "x.bin"}}}, r"x\.bin cannot be read: No such file"),
        ({INDEX: {"weight_map": {"a": "x.bin", "b": "x"}}}, "the same name"),
    ],
)
def test_directories_that_cannot_be_converted(
    model: Path, files: dict[str, object], reason: str
) -> None:
    for name, document in files.items():
        write(model / name, document)
        if document == "{":
            (model / name).write_text("{")
    before = names(model)
    with pytest.raises(SettingsError, match=reason) as caught:
        run(model)
    assert "\n" not in str(caught.value)
    assert names(model) == before


def test_a_pointer_of_git_lfs(model: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (model / "pytorch_model.bin").write_text(pointer)
    with pytest.raises(SettingsError, match="git lfs pull"):
        run(model)


def test_unusable_outputs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no such model directory: /no/such"):
        run("/no/such")
    write(model / "pytorch_model.bin", PLAIN)
    with pytest.raises(
        ConversionFailed, match="--python /no/python is not a program that can be run"
    ):
        run(model, "--python", "/no/python")

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(SettingsError, match="cannot be written to: Read-only file system"):
        run(model)
    assert names(model) == ["pytorch_model.bin"]


def test_an_interrupted_run_leaves_nothing(model: Path, tmp_path: Path) -> None:
    write(model / "pytorch_model.bin", {"sleep": 60})
    started = Run(tmp_path, "convert", str(model), PYTHONPATH=os.environ["PYTHONPATH"])
    child = "conversion/child.py"
    eventually(lambda: any(child in line for line in started.processes().values()), 30)
    started.process.terminate()
    assert started.wait(30) == (143, "")
    assert names(model) == ["pytorch_model.bin"]
    eventually(lambda: started.left() == ({}, []))
