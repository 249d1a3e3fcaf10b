"""Descriptions of families of networks: how to read a config, and the names of the weights.

A table has a line for each tensor: bertq's name, which is Google's name if there is one; the name
in the checkpoint; and a letter for each axis of the tensor in memory. Kernels are [in, out] in
memory, and [out, in] in the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bertq_bert.config import NetworkConfig
from bertq_bert.families.fields import Fields


class Line(NamedTuple):
    """One tensor of a table."""

    name: str
    #: name in the checkpoint; several names if versions of the family differ
    stored: str | tuple[str, ...]
    #: axes: V words, P positions, T segments, E embedding width, H hidden size, I intermediate
    #: size, B relative buckets, A heads, L labels
    axes: str
    #: part of the tensor in the file, along its first axis: ``(0, 3)`` is the first third
    part: tuple[int, int] = (0, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the checkpoint, the usual name first."""
        return (self.stored,) if isinstance(self.stored, str) else self.stored


Table = tuple[Line, ...]


def linear(name: str, stored: str, axes: str, part: tuple[int, int] = (0, 1)) -> Table:
    """Return the lines of a dense layer: kernel and bias.

    Args:
        name: bertq's name of the layer.
        stored: name of the layer in the checkpoint.
        axes: axes of the kernel.
        part: as in ``Line``.
    """
    return (
        Line(f"{name}/kernel", f"{stored}.weight", axes, part),
        Line(f"{name}/bias", f"{stored}.bias", axes[-1], part),
    )


def norm(name: str, stored: str, axis: str = "H") -> Table:
    """Return the lines of a LayerNorm, with its new and its old names in checkpoints."""
    return (
        Line(f"{name}/gamma", (f"{stored}.weight", f"{stored}.gamma"), axis),
        Line(f"{name}/beta", (f"{stored}.bias", f"{stored}.beta"), axis),
    )


@dataclass(frozen=True)
class Family:
    """A family of networks."""

    #: name of the family, for messages
    name: str
    #: values of ``model_type`` in ``config.json``
    model_types: tuple[str, ...]
    #: function that reads the hyper-parameters
    read: Callable[[Fields], NetworkConfig]
    #: optional prefixes of the names of tensors
    prefixes: tuple[str, ...]
    #: tensors before the layers
    embeddings: Table
    #: tensors of a layer; ``{}`` in a name is the number of the layer
    layer: Table
    #: tensors after the last layer
    final: Table = ()
    #: tensors of the pooler, a dense layer over the first token, for ``CLS_POOLED``
    pooler: Table = ()
    #: tensors of a classifier: the layers between the network and the labels, and the labels
    classifier: Table = ()
    #: tensors of the masked-LM head
    masked_lm: Table = ()

    def tables(
        self,
        config: NetworkConfig,
        *,
        pooler: bool = False,
        classifier: bool = False,
        masked_lm: bool = False,
    ) -> Iterator[Line]:
        """Generate the lines of all tensors of a network.

        Args:
            config: the hyper-parameters.
            pooler, classifier, masked_lm: whether to include the tensors of these heads.
        """
        for line in self.embeddings:
            yield line
        for index in sorted({config.stored_layer(i) for i in range(config.num_hidden_layers)}):
            for line in self.layer:
                names = tuple(name.format(index) for name in line.names)
                yield Line(f"encoder/layer_{index}/{line.name}", names, line.axes, line.part)
        yield from self.final
        if pooler:
            yield from self.pooler
        if classifier:
            yield from self.classifier
        if masked_lm:
            yield from self.masked_lm
