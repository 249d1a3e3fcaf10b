"""From token vectors to a row: the strategies and which layers they read."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertq_bert.errors import BadOption, UnknownDtype, UnknownLayer, UnknownPooling

#: Pooling strategies, by the names that bert-as-service gave them.
POOLING_STRATEGIES: tuple[str, ...] = (
    "NONE",
    "REDUCE_MEAN",
    "REDUCE_MAX",
    "REDUCE_MEAN_MAX",
    "CLS_TOKEN",
    "FIRST_TOKEN",
    "SEP_TOKEN",
    "LAST_TOKEN",
    "CLS_POOLED",
    "CLASSIFICATION",
    "REGRESSION",
)

#: Those of a fine-tuned head.
_HEADS = ("CLASSIFICATION", "REGRESSION")
#: Those that pool the vectors of all tokens.
_OVER_TOKENS = ("NONE", "REDUCE_MEAN", "REDUCE_MAX", "REDUCE_MEAN_MAX")

#: Compute dtypes of the dense layers; rows are float32 with each of them.
DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float16")

_SAME_AS = {"FIRST_TOKEN": "CLS_TOKEN", "LAST_TOKEN": "SEP_TOKEN"}


@dataclass(frozen=True)
class Pooling:
    """A strategy and the encoder layers it reads, checked against a model.

    Two plans that give the same rows are equal: synonyms are resolved, ``CLS_POOLED`` and the heads
    read the last layer whatever was asked for, and ``mask_cls_sep`` is off where it changes
    nothing.
    """

    #: one of ``POOLING_STRATEGIES`` without the synonyms
    strategy: str
    #: negative layer numbers, -1 the last; concatenated in this order
    layers: tuple[int, ...]
    #: encoder layers of the model
    num_layers: int
    #: numbers that a fine-tuned head gives; None without one, or while it is not known
    num_labels: int | None = None
    #: whether the ``[CLS]`` and ``[SEP]`` that were added are left out
    mask_cls_sep: bool = False

    @property
    def depth(self) -> int:
        """How many encoder layers must be computed."""
        return self.num_layers + max(self.layers) + 1

    @property
    def needs_pooler(self) -> bool:
        """Whether the pooler's dense layer is read."""
        return self.strategy == "CLS_POOLED" or self.has_head

    @property
    def has_head(self) -> bool:
        """Whether a fine-tuned head follows the pooler."""
        return self.strategy in _HEADS

    @property
    def per_token(self) -> bool:
        """Whether a row keeps one vector per token."""
        return self.strategy == "NONE"

    def width(self, hidden_size: int) -> int:
        """Numbers in one pooled vector of a model that is ``hidden_size`` wide."""
        if self.has_head and self.num_labels is not None:
            return self.num_labels
        halves = 2 if self.strategy == "REDUCE_MEAN_MAX" else 1
        return hidden_size * len(self.layers) * halves


def plan_pooling(
    strategy: str,
    layers: Sequence[int],
    num_layers: int,
    *,
    num_labels: int | None = None,
    mask_cls_sep: bool = False,
) -> Pooling:
    """Check a strategy and its layers against a model of ``num_layers`` encoder layers.

    Raises:
        UnknownPooling: ``strategy`` is none of ``POOLING_STRATEGIES``.
        BadOption: ``num_labels`` is given and there is no head, or it is below 1.
        UnknownLayer: ``layers`` is empty, or a layer is not in -num_layers..-1.
    """
    if strategy not in POOLING_STRATEGIES:
        raise UnknownPooling(
            f"pooling strategy {strategy!r} is unknown: use one of {', '.join(POOLING_STRATEGIES)}"
        )
    if not layers:
        raise UnknownLayer(f"no pooling layer: give at least one of -1..-{num_layers}")
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -num_layers <= layer <= -1:
            raise UnknownLayer(
                f"pooling layer {layer!r} is out of range: this model has {num_layers} encoder "
                f"layers, give -1 (the last) to -{num_layers}"
            )
    strategy = _SAME_AS.get(strategy, strategy)
    if num_labels is not None and strategy not in _HEADS:
        raise BadOption(
            f"num_labels is {num_labels}, and strategy {strategy} has no labels: use "
            f"{' or '.join(_HEADS)}, or leave it out"
        )
    if num_labels is not None and num_labels < 1:
        raise BadOption(f"num_labels is {num_labels}: give at least 1")
    kept = (-1,) if strategy in ("CLS_POOLED", *_HEADS) else tuple(layers)
    masked = mask_cls_sep and strategy in _OVER_TOKENS
    return Pooling(strategy, kept, num_layers, num_labels, masked)


def check_dtype(dtype: str) -> None:
    """Raise ``UnknownDtype`` unless ``dtype`` is one of ``DTYPES``."""
    if dtype not in DTYPES:
        raise UnknownDtype(f"dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
