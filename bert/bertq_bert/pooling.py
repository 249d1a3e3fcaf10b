"""From token vectors to a row: layers, pooling modes, and the modules after the pooling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bertq_bert.errors import BadOption, UnknownDtype, UnknownLayer, UnknownPooling

#: Pooling strategies by the names that bert-as-service gave them, and their modes.
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

#: Modes of sentence-transformers, in the order in which it concatenates those of old directories.
MODES: tuple[str, ...] = (
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
)

#: Weights of the vocabulary's tokens by a masked-LM head (SPLADE).
_SPARSE = {"SPLADE_MAX": ("splade_max",), "SPLADE_SUM": ("splade_sum",)}

#: Every name that ``pooling_strategy`` may have; several modes may be joined by ``+``.
POOLING_STRATEGIES: tuple[str, ...] = (*_BERT_AS_SERVICE, *_SPARSE, *MODES)

#: The activation of the labels of bert-as-service's heads.
_HEADS = {"CLASSIFICATION": "softmax", "REGRESSION": "sigmoid"}

#: Compute dtypes of the dense layers; rows are float32 with each of them. ``tf32`` is float32 whose
#: products a GPU computes with 10 bits of mantissa.
DTYPES: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16")


@dataclass(frozen=True)
class Step:
    """A module of sentence-transformers after the pooling.

    Its weights are ``modules/NUMBER/...``, where ``number`` is its place in ``modules.json``.
    """

    #: ``dense``, ``layer_norm`` or ``normalize``
    kind: str
    number: int
    #: numbers in a row before and after it; None where it takes any
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
    """A plan for the token vectors of a row, checked against a model.

    Two plans that give the same rows are equal: synonyms are resolved, the pooler and the heads
    always read the last layer, and ``mask_cls_sep`` is off where it changes nothing.
    """

    #: some of ``MODES``, concatenated; or ``none``, ``pooler``, ``labels``, ``splade_max`` or
    #: ``splade_sum`` alone
    modes: tuple[str, ...]
    #: negative layer numbers, -1 the last; concatenated in this order
    layers: tuple[int, ...]
    #: encoder layers of the model
    num_layers: int
    #: numbers that a fine-tuned head gives; None without one, or while it is not known
    num_labels: int | None = None
    #: whether the ``[CLS]`` and ``[SEP]`` that were added are left out
    mask_cls_sep: bool = False
    #: whether the tokens of the prompt are pooled
    include_prompt: bool = True
    #: of the labels, or of SPLADE's logits (``relu`` or ``log1p_relu``)
    activation: str = "identity"
    #: modules after it, without the last one if that is ``normalize``: see ``normalized``
    steps: tuple[Step, ...] = ()
    #: whether rows get the length 1 unless a request says otherwise
    normalized: bool = False

    @property
    def depth(self) -> int:
        """How many encoder layers must be computed."""
        return self.num_layers + max(self.layers) + 1

    @property
    def needs_pooler(self) -> bool:
        """Whether the dense layer over the first token is read."""
        return self.modes == ("pooler",) or self.has_labels

    @property
    def has_labels(self) -> bool:
        """Whether a fine-tuned classifier follows."""
        return self.modes == ("labels",)

    @property
    def sparse(self) -> bool:
        """Whether a row has a number for each token of the vocabulary."""
        return self.modes[0] in ("splade_max", "splade_sum")

    @property
    def per_token(self) -> bool:
        """Whether a row keeps one vector per token."""
        return self.modes == ("none",)

    @property
    def task(self) -> str:
        """The kind of rows: ``embed``, ``score`` or ``sparse``."""
        return "score" if self.has_labels else "sparse" if self.sparse else "embed"

    def width(self, hidden_size: int, vocab_size: int = 0) -> int:
        """Numbers in one row (of one token, where it keeps one vector per token)."""
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
    """Check a strategy and its layers against a model of ``num_layers`` encoder layers.

    Raises:
        UnknownPooling: ``strategy`` is none of ``POOLING_STRATEGIES``.
        BadOption: ``num_labels`` is given and there is no head, or it is below 1.
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
    """Raise ``UnknownDtype`` unless ``dtype`` is one of ``DTYPES``."""
    if dtype not in DTYPES:
        raise UnknownDtype(f"dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
