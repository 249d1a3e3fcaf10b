"""Reads the weights of both layouts into one dictionary, shapes checked against the config.

The keys are the variable names of google-research/bert without ``bert/``, and dense kernels are
[in, out] as there. Optimizer slots and task heads are left in the file.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes  # noqa: F401  (makes numpy, and so safetensors, know bfloat16)
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from bertq_bert.config import BertConfig
from bertq_bert.directory.layout import Layout, ModelFiles
from bertq_bert.errors import BrokenFile, MissingVariable, WrongShape

Array: TypeAlias = npt.NDArray[np.float32]
#: canonical name -> float32 array
Weights: TypeAlias = dict[str, Array]

#: name, Hugging Face's name, axes
_Table: TypeAlias = tuple[tuple[str, str, str], ...]

_EMBEDDINGS: _Table = (
    ("word_embeddings", "word_embeddings.weight", "VH"),
    ("position_embeddings", "position_embeddings.weight", "PH"),
    ("token_type_embeddings", "token_type_embeddings.weight", "TH"),
    ("LayerNorm/gamma", "LayerNorm.weight", "H"),
    ("LayerNorm/beta", "LayerNorm.bias", "H"),
)
_LAYER: _Table = (
    ("attention/self/query/kernel", "attention.self.query.weight", "HH"),
    ("attention/self/query/bias", "attention.self.query.bias", "H"),
    ("attention/self/key/kernel", "attention.self.key.weight", "HH"),
    ("attention/self/key/bias", "attention.self.key.bias", "H"),
    ("attention/self/value/kernel", "attention.self.value.weight", "HH"),
    ("attention/self/value/bias", "attention.self.value.bias", "H"),
    ("attention/output/dense/kernel", "attention.output.dense.weight", "HH"),
    ("attention/output/dense/bias", "attention.output.dense.bias", "H"),
    ("attention/output/LayerNorm/gamma", "attention.output.LayerNorm.weight", "H"),
    ("attention/output/LayerNorm/beta", "attention.output.LayerNorm.bias", "H"),
    ("intermediate/dense/kernel", "intermediate.dense.weight", "HI"),
    ("intermediate/dense/bias", "intermediate.dense.bias", "I"),
    ("output/dense/kernel", "output.dense.weight", "IH"),
    ("output/dense/bias", "output.dense.bias", "H"),
    ("output/LayerNorm/gamma", "output.LayerNorm.weight", "H"),
    ("output/LayerNorm/beta", "output.LayerNorm.bias", "H"),
)
_POOLER: _Table = (
    ("dense/kernel", "dense.weight", "HH"),
    ("dense/bias", "dense.bias", "H"),
)


@dataclass(frozen=True)
class Variable:
    """One tensor of the network: its two names and its shape."""

    name: str
    hugging_face: str
    shape: tuple[int, ...]
    #: whether the checkpoint may have it under a name that begins with the network's
    inside: bool = True


@dataclass(frozen=True)
class Parts:
    """Which parts of a network are read beside the embeddings of words and the layers."""

    pooler: bool = False
    #: a fine-tuned head, and how many numbers it gives; None takes as many as there are
    head: bool = False
    num_labels: int | None = None
    positions: bool = True


def variables(config: BertConfig, parts: Parts) -> Iterator[Variable]:
    """Every tensor that these parts of a network of this config have, but for the head's."""
    size = {
        "V": config.vocab_size,
        "P": config.max_position_embeddings,
        "T": config.type_vocab_size,
        "H": config.hidden_size,
        "I": config.intermediate_size,
    }
    blocks: list[tuple[str, str, _Table]] = [("embeddings/", "embeddings.", _EMBEDDINGS)]
    blocks += [
        (f"encoder/layer_{index}/", f"encoder.layer.{index}.", _LAYER)
        for index in range(config.num_hidden_layers)
    ]
    blocks += [("pooler/", "pooler.", _POOLER)] if parts.pooler else []
    for google, hugging_face, table in blocks:
        for name, other, axes in table:
            if parts.positions or name != "position_embeddings":
                shape = tuple(size[axis] for axis in axes)
                yield Variable(google + name, hugging_face + other, shape)


def head(config: BertConfig, labels: int) -> Iterator[Variable]:
    """The tensors of a fine-tuned head, as in ``run_classifier.py`` of google-research/bert."""
    yield Variable("output_weights", "classifier.weight", (labels, config.hidden_size), False)
    yield Variable("output_bias", "classifier.bias", (labels,), False)


def read_weights(files: ModelFiles, config: BertConfig, parts: Parts) -> Weights:
    """Read every tensor of ``parts`` as float32.

    Raises:
        MissingVariable, WrongShape: the checkpoint lacks a tensor, or has it in another shape.
        BrokenFile: a file is cut or damaged, or a tensor is not made of finite numbers.
    """
    source: _Source
    if files.layout is Layout.GOOGLE:
        source = _GoogleCheckpoint(files.weights)
    else:
        source = _Safetensors(files.weights)
    wanted = list(variables(config, parts))
    if parts.head:
        wanted += head(config, parts.num_labels or source.labels())
    return {variable.name: source.load(variable) for variable in wanted}


class _Source(ABC):
    """Tensors by name in one checkpoint; the layouts differ in names and orientation."""

    path: Path
    shapes: dict[str, tuple[int, ...]]

    @abstractmethod
    def names(self, variable: Variable) -> list[str]:
        """The names that this layout has for ``variable``, the usual one first."""

    @abstractmethod
    def transposed(self, variable: Variable) -> bool:
        """Whether the file stores ``variable`` as [out, in]."""

    @abstractmethod
    def read(self, name: str) -> npt.NDArray[Any]:
        """Read one tensor as it is stored."""

    def labels(self) -> int:
        """How many numbers the fine-tuned head gives; 1 if there is none."""
        (name,) = self.names(Variable("output_weights", "classifier.weight", (), False))
        return next(iter(self.shapes.get(name, ())), 1)

    def load(self, variable: Variable) -> Array:
        """Read ``variable`` as a contiguous float32 array of its own shape."""
        names = self.names(variable)
        name = next((name for name in names if name in self.shapes), None)
        if name is None:
            why = "not a BERT checkpoint of this config" if variable.inside else "no head was tuned"
            raise MissingVariable(f"{self.path} has no variable {names[0]!r}: {why}")
        transposed = self.transposed(variable)
        wanted = variable.shape[::-1] if transposed else variable.shape
        if self.shapes[name] != wanted:
            of = "the config calls" if variable.inside else f"{wanted[0]} labels call"
            raise WrongShape(
                f"{self.path}: variable {name!r} has shape {list(self.shapes[name])}, "
                f"{of} for {list(wanted)}"
            )
        stored = self.read(name)
        array = np.ascontiguousarray(stored.T if transposed else stored, dtype=np.float32)
        if not np.isfinite(array).all():
            raise BrokenFile(f"{self.path}: variable {name!r} has numbers that are not finite")
        return array


class _GoogleCheckpoint(_Source):
    """``bert_model.ckpt.*``, read by TensorFlow, which is imported here and not before."""

    def __init__(self, prefix: Path) -> None:
        import tensorflow as tf

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


class _Safetensors(_Source):
    """``model.safetensors``, as transformers and sentence-transformers write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opener: Any = safe_open  # its methods have no types
        try:
            self._file = opener(path, framework="np")
            names = self._file.keys()
            slices = {name: self._file.get_slice(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise self._broken(error) from error
        self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}

    def names(self, variable: Variable) -> list[str]:
        plain = variable.hugging_face
        if not variable.inside:
            return [plain]
        old = plain.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        return [plain, f"bert.{plain}", old, f"bert.{old}"]

    def transposed(self, variable: Variable) -> bool:
        return variable.name.endswith("/kernel")

    def read(self, name: str) -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = self._file.get_tensor(name)
        except (SafetensorError, OSError, TypeError) as error:
            raise self._broken(error) from error
        if array.dtype.kind not in "fV":  # V: bfloat16
            raise BrokenFile(
                f"{self.path}: variable {name!r} is {array.dtype}: bertq reads float weights"
            )
        return array

    def _broken(self, error: Exception) -> BrokenFile:
        reason = " ".join(str(error).split())
        return BrokenFile(f"{self.path} cannot be read as safetensors ({reason}): fetch it again")
