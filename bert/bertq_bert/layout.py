"""Where a model directory keeps its files: Google's release layout or Hugging Face's."""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bertq_bert.errors import MissingFile, UnsafeCheckpoint

_PICKLE = "pytorch_model.bin"
_SAFETENSORS = "model.safetensors"


class Layout(Enum):
    """Which names the checkpoint uses."""

    GOOGLE = "google"
    HUGGING_FACE = "hugging face"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model."""

    layout: Layout
    directory: Path
    #: `bert_config.json` or `config.json`
    config: Path
    #: `model.safetensors`, or the prefix of `bert_model.ckpt.index` and its data files
    weights: Path

    @property
    def name(self) -> str:
        """The directory's base name."""
        return self.directory.name


def find_model(model_dir: str | os.PathLike[str]) -> ModelFiles:
    """Look for a model in `model_dir`. A directory with both layouts is read as Google's.

    Raises
    ------
    MissingFile
        The directory, the config or the weights are not there; the message says which.
    UnsafeCheckpoint
        The only weights are a pickle.
    """
    directory = Path(model_dir).absolute()
    if directory.name in ("", ".."):
        directory = directory.resolve()
    try:
        is_directory = directory.is_dir()
    except OSError:  # a name that is too long, say
        is_directory = False
    if not is_directory:
        raise MissingFile(f"no such model directory: {directory}")
    google, hugging_face = directory / "bert_config.json", directory / "config.json"
    safetensors = directory / _SAFETENSORS
    indexes = sorted(directory.glob("*.ckpt*.index"))
    if google.is_file() and (indexes or not (hugging_face.is_file() and safetensors.is_file())):
        return ModelFiles(Layout.GOOGLE, directory, google, _checkpoint_prefix(directory, indexes))
    if not hugging_face.is_file():
        raise MissingFile(
            f"no bert_config.json (Google's layout) and no config.json (Hugging Face's) "
            f"in {directory}"
        )
    if not safetensors.is_file():
        raise _no_safetensors(directory)
    return ModelFiles(Layout.HUGGING_FACE, directory, hugging_face, safetensors)


def _checkpoint_prefix(directory: Path, indexes: list[Path]) -> Path:
    released = directory / "bert_model.ckpt.index"
    if released in indexes:
        return released.with_suffix("")
    if not indexes:
        raise MissingFile(f"no checkpoint (bert_model.ckpt.index) in {directory}")
    if len(indexes) > 1:
        names = ", ".join(index.name for index in indexes)
        raise MissingFile(
            f"{directory} has several checkpoints ({names}) and none is bert_model.ckpt: "
            f"keep one of them"
        )
    return indexes[0].with_suffix("")


def _no_safetensors(directory: Path) -> MissingFile | UnsafeCheckpoint:
    if not (directory / _PICKLE).is_file():
        return MissingFile(f"no {_SAFETENSORS} in {directory}")
    where = str(directory)
    return UnsafeCheckpoint(
        f"{directory / _PICKLE} is a pickle, which can run code when it is opened: convert it "
        f"once with transformers, AutoModel.from_pretrained({where!r}).save_pretrained({where!r})"
        f", and use the {_SAFETENSORS} that this writes"
    )
