"""From token vectors to a row: the strategies and which layers they read."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertq_bert.errors import UnknownDtype, UnknownLayer, UnknownPooling

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
)

#: Compute dtypes of the dense layers; rows are float32 with each of them.
DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float16")

_SAME_AS = {"FIRST_TOKEN": "CLS_TOKEN", "LAST_TOKEN": "SEP_TOKEN"}


@dataclass(frozen=True)
class Pooling:
    """A strategy and the encoder layers it reads, checked against a model.

    Two plans that give the same rows are equal: synonyms are resolved, and `CLS_POOLED`
    reads the last layer whatever was asked for.
    """

    #: one of `POOLING_STRATEGIES` without the synonyms
    strategy: str
    #: negative layer numbers, -1 the last; concatenated in this order
    layers: tuple[int, ...]
    #: encoder layers of the model
    num_layers: int

    @property
    def depth(self) -> int:
        """How many encoder layers must be computed."""
        return self.num_layers + max(self.layers) + 1

    @property
    def needs_pooler(self) -> bool:
        """Whether the pooler's dense layer is read."""
        return self.strategy == "CLS_POOLED"

    @property
    def per_token(self) -> bool:
        """Whether a row keeps one vector per token."""
        return self.strategy == "NONE"

    def width(self, hidden_size: int) -> int:
        """Numbers in one pooled vector of a model that is `hidden_size` wide."""
        halves = 2 if self.strategy == "REDUCE_MEAN_MAX" else 1
        return hidden_size * len(self.layers) * halves


def plan_pooling(strategy: str, layers: Sequence[int], num_layers: int) -> Pooling:
    """Check a strategy and its layers against a model of `num_layers` encoder layers.

    Raises
    ------
    UnknownPooling
        `strategy` is none of `POOLING_STRATEGIES`.
    UnknownLayer
        `layers` is empty, or a layer is not in -num_layers..-1.
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
    kept = (-1,) if strategy == "CLS_POOLED" else tuple(layers)
    return Pooling(strategy, kept, num_layers)


def check_dtype(dtype: str) -> None:
    """Raise `UnknownDtype` unless `dtype` is one of `DTYPES`."""
    if dtype not in DTYPES:
        raise UnknownDtype(f"dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
