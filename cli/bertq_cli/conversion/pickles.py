"""Search for pickled weights in a model's directory, for ``bertq convert``."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertq.errors import SettingsError

PICKLE = "pytorch_model.bin"
SAFETENSORS = "model.safetensors"
#: Suffix of the index of shards, after the name of the file.
INDEX = ".index.json"


@dataclass(frozen=True)
class Weights:
    """The pickled weights in one folder.

    Attributes:
        folder: the directory of the files.
        files: pickle -> name of the converted file.
        index: tensor -> pickle, if there are several.
    """

    folder: Path
    files: Mapping[str, str]
    index: Mapping[str, str] | None = None


def find(directory: Path) -> list[Weights]:
    """Return the weights to convert, those of the root folder last.

    Raises:
        SettingsError: there is no such directory, or nothing to convert in it.
    """
    if not directory.is_dir():
        raise SettingsError(f"no such model directory: {directory}")
    directory = directory.absolute()
    converted, found = [], []
    for folder in _folders(directory):
        existing = [name for name in (SAFETENSORS, SAFETENSORS + INDEX) if (folder / name).exists()]
        if existing:
            converted.append(folder / existing[0])
        elif (folder / PICKLE).is_file():
            found.append(Weights(folder, {PICKLE: SAFETENSORS}))
        elif (folder / (PICKLE + INDEX)).is_file():
            found.append(_shards(folder))
    if not found and converted:
        raise SettingsError(f"nothing to do: {', '.join(map(str, converted))} already exists")
    if not found:
        raise SettingsError(f"no {PICKLE} in {directory}: nothing to convert")
    for weights in found:
        for name in weights.files:
            _check_file(weights.folder / name)
    return found


def _folders(directory: Path) -> list[Path]:
    """Return the folders of a model's modules, and then its root folder."""
    listing = directory / "modules.json"
    folders = []
    if listing.is_file():
        for module in _read(listing, list):
            path = module.get("path") if isinstance(module, dict) else None
            if not isinstance(path, str) or Path(path).is_absolute() or ".." in Path(path).parts:
                raise SettingsError(f"{listing} names a module with a folder that cannot be used")
            folders.append(directory / path)
    others = dict.fromkeys(folder for folder in folders if folder != directory)
    return [*(folder for folder in others if folder.is_dir()), directory]


def _shards(folder: Path) -> Weights:
    index = folder / (PICKLE + INDEX)
    listed = _read(index, dict).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(map(_is_name, listed.values())):
        raise SettingsError(f"{index} does not say in which file of its folder each tensor is")
    files = {name: _renamed(name) for name in sorted(set(listed.values()))}
    if len(set(files.values())) < len(files):
        raise SettingsError(f"{index} names files that would get the same name")
    return Weights(folder, files, listed)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _renamed(name: str) -> str:
    """Return the name that transformers gives to a shard of safetensors."""
    return re.sub(r"^pytorch_model", "model", name.removesuffix(".bin")) + ".safetensors"


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, kind):
        raise SettingsError(f"{path} cannot be read: it is cut, damaged or of another format")
    return document


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    if start.startswith(b"version https://git-lfs"):
        raise SettingsError(
            f"{path} is a pointer of Git LFS, not the weights: fetch them with git lfs pull"
        )
