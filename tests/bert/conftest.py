"""Models that the tests of this room share. No fixture imports TensorFlow by being defined."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bert.checkpoints import hf_to_google, write_tiny_google, write_tiny_hf

GOLDEN = Path(__file__).parent.parent / "data" / "golden"


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
