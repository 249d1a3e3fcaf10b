"""The tensors of a network: their names in a checkpoint, and their shapes."""

from collections.abc import Iterator
from dataclasses import dataclass

from bertq_bert.config import NetworkConfig
from bertq_bert.families.family import Family, Line


@dataclass(frozen=True)
class Variable:
    """One tensor of the network: its names and its shape."""

    name: str
    #: names in safetensors, the usual name first
    stored: tuple[str, ...]
    #: shape in memory, where dense kernels are [in, out]
    shape: tuple[int, ...]
    #: part of the stored tensor, along its first axis: ``(0, 3)`` is the first third
    part: tuple[int, int] = (0, 1)
    #: whether it is a part of the network, not of a fine-tuned head
    inside: bool = True


@dataclass(frozen=True)
class Parts:
    """The parts of a network that are optional, unlike word embeddings and layers."""

    pooler: bool = False
    #: a fine-tuned classifier
    classifier: bool = False
    #: number of labels of the classifier; None: as many as the checkpoint has
    num_labels: int | None = None
    masked_lm: bool = False
    positions: bool = True


def list_variables(
    family: Family, config: NetworkConfig, parts: Parts, num_labels: int = 1
) -> Iterator[Variable]:
    """Generate the tensors of a network.

    Args:
        family: the family of the network.
        config: the hyper-parameters.
        parts: the optional parts of the network.
        num_labels: number of labels of a classifier.
    """
    size = {
        "V": config.vocab_size,
        "P": config.max_position_embeddings + config.position_offset,
        "T": config.type_vocab_size,
        "E": config.embedding_width,
        "H": config.hidden_size,
        "I": config.intermediate_size,
        "B": config.relative_buckets,
        "A": config.num_attention_heads,
        "L": num_labels,
    }
    lines = family.tables(
        config, pooler=parts.pooler, classifier=parts.classifier, masked_lm=parts.masked_lm
    )
    prefixes = ("", *family.prefixes)
    for line in lines:
        shape = tuple(size[axis] for axis in line.axes)
        if 0 in shape or not _has_line(line, config, parts):
            continue
        stored = tuple(prefix + name for name in line.names for prefix in prefixes)
        inside = not line.name.startswith("output_")
        yield Variable(line.name, stored, shape, line.part, inside)


def _has_line(line: Line, config: NetworkConfig, parts: Parts) -> bool:
    """Return whether a network has the tensor of a line of its family's tables."""
    name = line.name
    if name == "embeddings/position_embeddings":
        return parts.positions
    if name.startswith("embeddings/project"):
        return config.embedding_size is not None
    if name == "predictions/decoder":
        return not config.tied_embeddings
    if name == "encoder/layer_0/attention/output/LayerNorm/gamma":
        return not config.pre_norm
    if name.endswith("/beta"):
        return config.norm_bias and (
            not config.pre_norm or name != "encoder/layer_0/attention/output/LayerNorm/beta"
        )
    if name.endswith("/bias") and not name.startswith("predictions/bias"):
        if name.startswith(("pooler/", "predictions/")):
            return config.head_bias
        if "/attention/" in name:
            return config.attention_bias
        return config.feed_forward_bias
    return True
