"""A file that this process may not read: the error says so, and does not call the file damaged."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertq_bert.checkpoint import Safetensors
from bertq_bert.config import read_json
from bertq_bert.errors import BrokenFile
from bertq_bert.tokenizing.vocabulary import read_vocab

NOBODY = 65534


@pytest.fixture
def without_rights(tmp_path: Path) -> Iterator[Path]:
    """A file that this process may not read, even if it is root's."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield path
    os.seteuid(user)


@pytest.mark.parametrize("read", [Safetensors, read_json, read_vocab])
def test_the_error_has_the_remedy(without_rights: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(BrokenFile) as caught:
        read(without_rights)
    assert f"{without_rights} cannot be opened: Permission denied: give the" in str(caught.value)
