"""Finds the files of a model directory, in the layout of Google's releases or Hugging Face's."""

import os
import re
import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bertq_bert.errors import MissingFile, UnsafeCheckpoint

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_SAFETENSORS = "model.safetensors"
_SHARDS = "model.safetensors.index.json"


class Layout(Enum):
    """The layout of a checkpoint, which defines the names of its tensors."""

    GOOGLE = "google"
    HUGGING_FACE = "hugging face"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model."""

    layout: Layout
    directory: Path
    #: ``bert_config.json`` or ``config.json``
    config: Path
    #: ``model.safetensors``, ``model.safetensors.index.json``, which names other files, or the
    #: prefix of ``bert_model.ckpt.index`` and its data files
    weights: Path

    @property
    def name(self) -> str:
        """The base name of the directory of the weights."""
        return self.weights.parent.name


def find_model(
    model_dir: str | os.PathLike[str],
    *,
    tuned_model_dir: str | os.PathLike[str] | None = None,
    ckpt_name: str | None = None,
    config_name: str | None = None,
) -> ModelFiles:
    """Find the files of a model. A directory with both layouts is read as Google's.

    Args:
        model_dir: the directory.
        tuned_model_dir: the directory of the weights, if it is another one.
        ckpt_name: name of the checkpoint, without ``.index``, if it is not the usual name.
        config_name: name of the config, if it is not the usual name.

    Raises:
        MissingFile: the directory, the config or the weights do not exist; the message says which.
        UnsafeCheckpoint: the only weights are a pickle.
    """
    directory = find_directory(model_dir)
    place = directory if tuned_model_dir is None else find_directory(tuned_model_dir)
    google = directory / (config_name or "bert_config.json")
    hugging_face = directory / (config_name or "config.json")
    if config_name is not None and not _is_file(google):
        raise MissingFile(f"no {config_name} in {directory}: it has {_list(directory, '*.json')}")
    if ckpt_name is not None:
        layout, weights = _named_checkpoint(place, ckpt_name)
    else:
        indexes = sorted(place.glob("*.ckpt*.index"))
        safetensors = _safetensors(place)
        whole = hugging_face.is_file() and safetensors.is_file()
        if google.is_file() and (indexes or not whole):
            layout, weights = Layout.GOOGLE, _checkpoint_prefix(place, indexes)
        else:
            layout, weights = Layout.HUGGING_FACE, safetensors
    config = google if layout is Layout.GOOGLE else hugging_face
    if not config.is_file() and ckpt_name is not None:
        raise MissingFile(f"no {config.name} in {directory}, which {weights.name} calls for")
    if not config.is_file():
        raise MissingFile(
            f"no bert_config.json (Google's layout) and no config.json (Hugging Face's) "
            f"in {directory}"
        )
    if layout is Layout.HUGGING_FACE and not weights.is_file():
        raise _no_safetensors(place)
    return ModelFiles(layout, directory, config, weights)


def find_module_weights(folder: Path) -> Path:
    """Return the path of the weights of a module after the pooling.

    Raises:
        MissingFile: there are no weights.
        UnsafeCheckpoint: the only weights are a pickle.
    """
    weights = folder / _SAFETENSORS
    if not weights.is_file():
        raise _no_safetensors(folder)
    return weights


def _safetensors(directory: Path) -> Path:
    """Return the path of Hugging Face's weights: a single file, or the index of several."""
    single, index = directory / _SAFETENSORS, directory / _SHARDS
    return index if index.is_file() and not single.is_file() else single


def find_directory(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of an existing directory.

    Raises:
        MissingFile: the directory does not exist.
    """
    directory = Path(path).absolute()
    if directory.name in ("", ".."):
        directory = directory.resolve()
    try:
        is_directory = directory.is_dir()
    except OSError:  # for example, the name is too long
        is_directory = False
    if not is_directory:
        raise MissingFile(f"no such model directory: {directory}")
    return directory


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example, the name is too long
        return False


def _list(directory: Path, *patterns: str) -> str:
    """Return the names of the files of a directory that match patterns, for a message."""
    names = sorted(path.name for pattern in patterns for path in directory.glob(pattern))
    return ", ".join(names) or "none"


def _named_checkpoint(directory: Path, name: str) -> tuple[Layout, Path]:
    """Return the layout and the path of a checkpoint by its name, with or without ``.index``."""
    weights = directory / name.removesuffix(".index")
    if _is_file(Path(f"{weights}.index")):
        return Layout.GOOGLE, weights
    if weights.suffix == ".safetensors" and _is_file(weights):
        return Layout.HUGGING_FACE, weights
    there = _list(directory, "*.index", "*.safetensors")
    raise MissingFile(f"no checkpoint {name} in {directory}: it has {there}")


def _checkpoint_prefix(directory: Path, indexes: list[Path]) -> Path:
    released = directory / "bert_model.ckpt.index"
    if released in indexes:
        return released.with_suffix("")
    if not indexes:
        raise MissingFile(f"no checkpoint (bert_model.ckpt.index) in {directory}")
    if len(indexes) > 1:
        if (latest := _latest(directory)) in indexes:
            return latest.with_suffix("")
        names = ", ".join(index.name for index in indexes)
        raise MissingFile(
            f"{directory} has several checkpoints ({names}) and none is bert_model.ckpt: "
            f"name one of them (ckpt_name), or keep one"
        )
    return indexes[0].with_suffix("")


def _latest(directory: Path) -> Path:
    """Return the index of the latest checkpoint, which TensorFlow's file ``checkpoint`` names.

    The returned path may not exist.
    """
    try:
        text = (directory / "checkpoint").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    # The directory in the file is that of the training, so only the name is used.
    found = re.search(r'^model_checkpoint_path:\s*"(?:[^"]*/)?([^"/]+)"', text, re.MULTILINE)
    return directory / (found[1] + ".index" if found else "checkpoint")


def _no_safetensors(directory: Path) -> MissingFile | UnsafeCheckpoint:
    pickle = next((name for name in _PICKLES if (directory / name).is_file()), None)
    if pickle is None:
        return MissingFile(f"no {_SAFETENSORS} in {directory}")
    return UnsafeCheckpoint(
        f"{directory / pickle} is a pickle, which can run code when it is opened: convert it once "
        f"with: bertq convert {shlex.quote(str(directory))}"
    )
