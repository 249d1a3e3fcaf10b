"""How a row is computed from token vectors: layers, pooling modes, modules after the pooling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bertq_bert.errors import BadOption, UnknownDtype, UnknownLayer, UnknownPooling

#: Names of pooling strategies in bert-as-service, and their modes.
_BERT_AS_SERVICE: dict[str, tuple[str, ...]] = {
    "NONE": ("none",),
    "REDUCE_MEAN": ("mean",),
    "REDUCE_MAX": ("max",),
    "REDUCE_MEAN_MAX": ("mean", "max"),
    "CLS_TOKEN": ("cls",),
    "FIRST_TOKEN": ("cls",),
    "SEP_TOKEN": ("lasttoken",),
    "LAST_TOKEN": ("lasttoken",),
    "CLS_POOLED": ("pooler",),
    "CLASSIFICATION": ("labels",),
    "REGRESSION": ("labels",),
}

#: Modes of sentence-transformers, in the order of concatenation for directories in the older form.
MODES: tuple[str, ...] = (
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
)

#: Strategies for weights of the vocabulary's tokens from a masked-LM head (SPLADE).
_SPARSE = {"SPLADE_MAX": ("splade_max",), "SPLADE_SUM": ("splade_sum",)}

#: Values of ``pooling_strategy``. Several modes may also be joined by ``+``.
POOLING_STRATEGIES: tuple[str, ...] = (*_BERT_AS_SERVICE, *_SPARSE, *MODES)

#: Activations of the labels of bert-as-service's heads.
_HEADS = {"CLASSIFICATION": "softmax", "REGRESSION": "sigmoid"}

#: Compute dtypes of the dense layers; rows are always float32. With ``tf32``, a GPU multiplies
#: float32 numbers with 10 bits of mantissa.
DTYPES: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16")


@dataclass(frozen=True)
class Step:
    """A module of sentence-transformers after the pooling.

    The names of its weights are ``modules/NUMBER/...``, with its index in ``modules.json``.
    """

    #: ``dense``, ``dense_without_bias``, ``layer_norm`` or ``normalize``
    kind: str
    #: index in ``modules.json``
    number: int
    #: size of a row before and after the module; None if any size is possible
    inputs: int | None = None
    outputs: int | None = None
    activation: str = "identity"

    def __str__(self) -> str:
        if not self.kind.startswith("dense"):
            return {"layer_norm": "LayerNorm", "normalize": "L2-normalized"}[self.kind]
        act = "" if self.activation == "identity" else f" with {self.activation}"
        return f"Dense to {self.outputs} numbers{act}"


@dataclass(frozen=True)
class Pooling:
    """A plan to compute rows from token vectors, checked against a model.

    Plans that compute the same rows are equal: synonyms have the same modes, the pooler and the
    heads always have the last layer, and ``mask_cls_sep`` is false if it has no effect.
    """

    #: some of ``MODES``, whose results are concatenated; or one of ``none``, ``pooler``,
    #: ``labels``, ``splade_max`` and ``splade_sum``
    modes: tuple[str, ...]
    #: negative numbers of layers, -1 for the last; their outputs are concatenated in this order
    layers: tuple[int, ...]
    #: number of encoder layers of the model
    num_layers: int
    #: number of labels of a fine-tuned head; None without a head, or while it is unknown
    num_labels: int | None = None
    #: whether the pooling ignores the special tokens that were added (``[CLS]`` and ``[SEP]``)
    mask_cls_sep: bool = False
    #: whether the pooling includes the tokens of the prompt
    include_prompt: bool = True
    #: activation of the labels, or of SPLADE's logits (``relu`` or ``log1p_relu``)
    activation: str = "identity"
    #: modules after the pooling, except for a last ``normalize`` (``normalized``)
    steps: tuple[Step, ...] = ()
    #: whether rows are normalized to length 1 by default
    normalized: bool = False

    @property
    def depth(self) -> int:
        """The number of encoder layers that must be computed."""
        return self.num_layers + max(self.layers) + 1

    @property
    def needs_pooler(self) -> bool:
        """Whether the dense layer of the pooler is applied."""
        return self.modes == ("pooler",) or self.has_labels

    @property
    def has_labels(self) -> bool:
        """Whether rows are the labels of a fine-tuned classifier."""
        return self.modes == ("labels",)

    @property
    def sparse(self) -> bool:
        """Whether a row has a number for each token of the vocabulary."""
        return self.modes[0] in ("splade_max", "splade_sum")

    @property
    def per_token(self) -> bool:
        """Whether a row has a vector for each token."""
        return self.modes == ("none",)

    @property
    def task(self) -> str:
        """The kind of rows: ``embed``, ``score`` or ``sparse``."""
        return "score" if self.has_labels else "sparse" if self.sparse else "embed"

    def width(self, hidden_size: int, vocab_size: int = 0) -> int:
        """Return the size of a row, or of one vector if a row has a vector for each token.

        Args:
            hidden_size: size of a token's vector.
            vocab_size: number of tokens of the vocabulary, for sparse rows.
        """
        if self.has_labels and self.num_labels is not None:
            return self.num_labels
        if self.sparse:
            return vocab_size
        width = hidden_size * len(self.layers) * len(self.modes)
        return next((step.outputs for step in reversed(self.steps) if step.outputs), width)


def plan_pooling(
    strategy: str,
    layers: Sequence[int],
    num_layers: int,
    *,
    num_labels: int | None = None,
    mask_cls_sep: bool = False,
) -> Pooling:
    """Plan the pooling of a model, and check the options.

    Args:
        strategy: one of ``POOLING_STRATEGIES``, or several modes joined by ``+``.
        layers: encoder layers whose outputs are concatenated, -1 for the last.
        num_layers: number of encoder layers of the model.
        num_labels: number of labels of a fine-tuned head; None: as many as the checkpoint has.
        mask_cls_sep: whether the pooling ignores the special tokens that were added.

    Raises:
        UnknownPooling: the strategy is unknown.
        BadOption: ``num_labels`` is given and there is no head, or it is less than 1.
        UnknownLayer: ``layers`` is empty, or a layer is not in -num_layers..-1.
    """
    modes = (_BERT_AS_SERVICE | _SPARSE).get(strategy) or tuple(strategy.split("+"))
    if strategy not in POOLING_STRATEGIES and not set(modes) <= set(MODES):
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
    if num_labels is not None and strategy not in _HEADS:
        raise BadOption(
            f"num_labels is {num_labels}, and strategy {strategy} has no labels: use "
            f"{' or '.join(_HEADS)}, or leave it out"
        )
    if num_labels is not None and num_labels < 1:
        raise BadOption(f"num_labels is {num_labels}: give at least 1")
    plan = Pooling(
        modes,
        tuple(layers),
        num_layers,
        num_labels,
        activation=_HEADS.get(strategy, "relu" if strategy in _SPARSE else "identity"),
    )
    if plan.needs_pooler or plan.sparse:
        return replace(plan, layers=(-1,))
    whole = plan.per_token or set(modes) - {"cls", "lasttoken"}
    return replace(plan, mask_cls_sep=bool(mask_cls_sep and whole))


def check_dtype(dtype: str) -> None:
    """Check that a compute dtype is one of ``DTYPES``.

    Raises:
        UnknownDtype: it is not.
    """
    if dtype not in DTYPES:
        raise UnknownDtype(f"dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
