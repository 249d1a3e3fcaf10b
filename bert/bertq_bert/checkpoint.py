"""Reads the weights of a model into one dictionary, and checks their shapes against the config.

The keys are bertq's names (``families.family``): those of google-research/bert without ``bert/``,
if it has the tensor. Dense kernels are [in, out], as there. Tensors that the network does not need
are not read.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes  # noqa: F401  (adds bfloat16 to numpy, and so to safetensors)
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from bertq_bert.config import NetworkConfig, check_readable, read_json, shown
from bertq_bert.directory.layout import Layout, ModelFiles
from bertq_bert.errors import BrokenFile, MissingVariable, UnsupportedModel, WrongShape
from bertq_bert.families.family import Family
from bertq_bert.tensorflow_import import import_tensorflow
from bertq_bert.variables import Parts, Variable, list_variables

Array: TypeAlias = npt.NDArray[np.float32]
#: Dtypes of weights in safetensors.
_FLOATS = ("F64", "F32", "F16", "BF16")
#: Float32 arrays by bertq's names of the tensors.
Weights: TypeAlias = dict[str, Array]


def read_weights(files: ModelFiles, family: Family, config: NetworkConfig, parts: Parts) -> Weights:
    """Read the tensors of a network as float32.

    Args:
        files: the files of the model.
        family: the family of the network.
        config: the hyper-parameters.
        parts: the optional parts of the network.

    Raises:
        MissingVariable: the checkpoint lacks a tensor, or the family has no pooler.
        WrongShape: a tensor has another shape.
        BrokenFile: a file is incomplete or damaged, or a tensor has numbers that are not finite.
        UnsupportedModel: bertq does not support the head for this family.
    """
    for wanted, table, head in (
        (parts.classifier, family.classifier, "classifier"),
        (parts.masked_lm, family.masked_lm, "masked-LM head"),
    ):
        if wanted and not table:
            raise UnsupportedModel(
                f"{files.config}: bertq knows no {head} for {family.name} models"
            )
    if parts.pooler and not family.pooler and not parts.classifier:
        raise MissingVariable(
            f"{files.config}: {family.name} models have no pooler: use another pooling strategy"
        )
    checkpoint = open_checkpoint(files)
    num_labels = parts.num_labels or (checkpoint.labels(family) if parts.classifier else 1)
    found = {
        variable.name: checkpoint.load(variable)
        for variable in list_variables(family, config, parts, num_labels)
    }
    positions = found.get("embeddings/position_embeddings")
    if positions is not None and config.position_offset:
        # The table keeps the position of the padding token, if there is one.
        first = config.position_offset - (config.padding_id is not None)
        found["embeddings/position_embeddings"] = positions[first:]
    return found


def open_checkpoint(files: ModelFiles) -> "Checkpoint":
    """Open the weights of a model, in any layout."""
    if files.layout is Layout.GOOGLE:
        return _GoogleCheckpoint(files.weights)
    if files.weights.suffix == ".json":
        return _Shards(files.weights)
    return Safetensors(files.weights)


class Checkpoint(ABC):
    """The tensors of a checkpoint by name; names and axes of kernels differ in each layout.

    Attributes:
        path: the file, for messages.
        shapes: shapes of the stored tensors, by their names.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]

    @abstractmethod
    def names(self, variable: Variable) -> Iterable[str]:
        """Return the names of a tensor in this layout, the usual name first."""

    @abstractmethod
    def transposed(self, variable: Variable) -> bool:
        """Return whether the file stores a tensor as [out, in]."""

    @abstractmethod
    def read(self, name: str) -> npt.NDArray[Any]:
        """Read a tensor as it is stored."""

    def labels(self, family: Family) -> int:
        """Return the number of labels of the fine-tuned head; 1 without a head."""
        names = next(line.names for line in family.classifier if line.name == "output_weights")
        found = self.find(Variable("output_weights", names, (), inside=False))
        return self.shapes[found][0] if found and self.shapes[found] else 1

    def find(self, variable: Variable) -> str | None:
        """Return the name of a tensor in this checkpoint; None if it has no such tensor."""
        return next((name for name in self.names(variable) if name in self.shapes), None)

    def load(self, variable: Variable) -> Array:
        """Read a tensor as a contiguous float32 array with the axes and the part of ``variable``.

        Raises:
            MissingVariable: the checkpoint lacks the tensor.
            WrongShape: the stored tensor has another shape.
            BrokenFile: the file is damaged, or the tensor has numbers that are not finite.
        """
        name = self.find(variable)
        if name is None:
            first = next(iter(self.names(variable)))
            why = "not a checkpoint of this config" if variable.inside else "no head was tuned"
            raise MissingVariable(f"{self.path} has no variable {first!r}: {why}")
        transposed = self.transposed(variable)
        wanted = variable.shape[::-1] if transposed else variable.shape
        index, count = variable.part
        whole = (wanted[0] * count, *wanted[1:])
        if self.shapes[name] != whole:
            of = "the config calls" if variable.inside else f"{whole[0]} labels call"
            raise WrongShape(
                f"{self.path}: variable {name!r} has shape {list(self.shapes[name])}, "
                f"{of} for {list(whole)}"
            )
        stored = self.read(name)[index * wanted[0] : (index + 1) * wanted[0]]
        array = np.ascontiguousarray(stored.T if transposed else stored, dtype=np.float32)
        if not np.isfinite(array).all():
            raise BrokenFile(f"{self.path}: variable {name!r} has numbers that are not finite")
        return array


class _GoogleCheckpoint(Checkpoint):
    """``bert_model.ckpt.*``, read by TensorFlow, which is imported only by this class."""

    def __init__(self, prefix: Path) -> None:
        tf = import_tensorflow()
        self.path = prefix
        self._failures = (tf.errors.OpError, RuntimeError, ValueError, LookupError)
        try:
            self._reader = tf.train.load_checkpoint(str(prefix))
            shapes = self._reader.get_variable_to_shape_map()
        except self._failures as error:
            raise self._broken(error) from error
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def names(self, variable: Variable) -> list[str]:
        return [f"bert/{variable.name}" if variable.inside else variable.name]

    def transposed(self, variable: Variable) -> bool:
        return False

    def read(self, name: str) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._reader.get_tensor(name))
        except self._failures as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> BrokenFile:
        return BrokenFile(
            f"{self.path}.index and {self.path.name}.data-* cannot be read as a TensorFlow "
            f"checkpoint ({type(error).__name__}): fetch them again"
        )


class Safetensors(Checkpoint):
    """``model.safetensors``, as transformers and sentence-transformers write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opener: Any = safe_open  # its methods have no types
        check_readable(path)
        try:
            self._file = opener(path, framework="np")
            names = self._file.keys()
            slices = {name: self._file.get_slice(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise self._broken(error) from error
        self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}

    def names(self, variable: Variable) -> tuple[str, ...]:
        """Return the names of a tensor in the versions of transformers."""
        return variable.stored

    def transposed(self, variable: Variable) -> bool:
        """Return whether a tensor is a dense kernel, which the file stores as [out, in]."""
        return variable.name.endswith("/kernel")

    def read(self, name: str) -> npt.NDArray[Any]:
        """Read a tensor as it is stored."""
        try:
            dtype = self._file.get_slice(name).get_dtype()
            if dtype not in _FLOATS:
                raise BrokenFile(
                    f"{self.path}: variable {name!r} is {dtype}: bertq reads {', '.join(_FLOATS)}"
                )
            array: npt.NDArray[Any] = self._file.get_tensor(name)
        except (SafetensorError, OSError, TypeError) as error:
            raise self._broken(error) from error
        return array

    def _broken(self, error: Exception) -> BrokenFile:
        if _is_pointer(self.path):
            return BrokenFile(
                f"{self.path} is a Git LFS pointer and not the weights: run git lfs pull"
            )
        reason = " ".join(str(error).split())
        return BrokenFile(f"{self.path} cannot be read as safetensors ({reason}): fetch it again")


def _is_pointer(path: Path) -> bool:
    """Return whether a file is the pointer of Git LFS to a file that is not fetched."""
    try:
        with path.open("rb") as file:
            return file.read(20).startswith(b"version https://git")
    except OSError:
        return False


class _Shards(Safetensors):
    """Several safetensors files, and ``model.safetensors.index.json`` with their tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        places = read_json(path).get("weight_map")
        if not isinstance(places, dict) or not all(
            isinstance(name, str) and name.isprintable() and name == Path(name).name
            for name in places.values()
        ):
            raise BrokenFile(f"{path} has no weight_map from tensors to files in the same folder")
        self._files = {name: Safetensors(path.parent / name) for name in set(places.values())}
        self._places: dict[str, str] = places
        self.shapes = {}
        for tensor, name in places.items():
            if tensor not in self._files[name].shapes:
                raise BrokenFile(
                    f"{path.parent / name} has no tensor {shown(tensor)}: fetch it again"
                )
            self.shapes[tensor] = self._files[name].shapes[tensor]

    def read(self, name: str) -> npt.NDArray[Any]:
        return self._files[self._places[name]].read(name)
