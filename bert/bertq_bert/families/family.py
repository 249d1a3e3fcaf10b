"""Descriptions of families of networks: how to read a config, and the names of the weights.

A table has a line for each tensor: our name, which is Google's where it has one; the name in the
checkpoint; and the axes, a letter each, of the tensor as we hold it. Kernels are [in, out] here and
[out, in] in the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bertq_bert.config import NetworkConfig
from bertq_bert.families.fields import Fields


class Line(NamedTuple):
    """One tensor of a table."""

    name: str
    #: in the checkpoint; several where versions of the family differ
    stored: str | tuple[str, ...]
    #: V words, P positions, T segments, E embedding width, H hidden size, I intermediate size,
    #: B relative buckets, A heads, L labels
    axes: str
    #: which of how many equal parts along the file's first axis it is: ``(0, 3)`` the first third
    part: tuple[int, int] = (0, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the checkpoint, the usual one first."""
        return (self.stored,) if isinstance(self.stored, str) else self.stored


Table = tuple[Line, ...]


def linear(name: str, stored: str, axes: str, part: tuple[int, int] = (0, 1)) -> Table:
    """The lines of a dense layer: kernel and bias."""
    return (
        Line(f"{name}/kernel", f"{stored}.weight", axes, part),
        Line(f"{name}/bias", f"{stored}.bias", axes[-1], part),
    )


def norm(name: str, stored: str, axis: str = "H") -> Table:
    """The lines of a LayerNorm, by its new and its old names."""
    return (
        Line(f"{name}/gamma", (f"{stored}.weight", f"{stored}.gamma"), axis),
        Line(f"{name}/beta", (f"{stored}.bias", f"{stored}.beta"), axis),
    )


@dataclass(frozen=True)
class Family:
    """A family of networks."""

    #: its name, for messages
    name: str
    #: values of ``model_type`` in its ``config.json``
    model_types: tuple[str, ...]
    #: reads the hyper-parameters
    read: Callable[[Fields], NetworkConfig]
    #: optional prefixes of the names of tensors
    prefixes: tuple[str, ...]
    embeddings: Table
    #: of one layer; ``{}`` in a name is the layer's number
    layer: Table
    #: after the last layer
    final: Table = ()
    #: the dense layer over the first token that some models have, ``CLS_POOLED``
    pooler: Table = ()
    #: sequence classification: the layers between the network and the labels, and the labels
    classifier: Table = ()
    #: the masked-LM head
    masked_lm: Table = ()

    def tables(
        self,
        config: NetworkConfig,
        *,
        pooler: bool = False,
        classifier: bool = False,
        masked_lm: bool = False,
    ) -> Iterator[Line]:
        """The lines of all tensors of a network with these heads."""
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
