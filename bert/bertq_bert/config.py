"""The hyper-parameters of a network, from ``bert_config.json`` or ``config.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertq_bert.errors import BrokenFile, MissingFile

#: Activations by transformers' names. ``gelu`` is the exact one (erf): the golden vectors of
#: bert-as-service agree with it and not with the tanh form.
ACTIVATIONS: tuple[str, ...] = (
    "gelu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "relu",
    "sigmoid",
    "silu",
    "tanh",
    "identity",
)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions of one layer (Su et al. 2021, RoFormer)."""

    #: base of the geometric series of wavelengths
    theta: float
    #: NTK-aware scaling for longer sequences (https://kexue.fm/archives/9706); 1 for none
    ntk_factor: float = 1.0
    #: positions are divided by it (linear interpolation)
    position_divisor: float = 1.0
    #: the longest sequence that they hold for; None: any
    longest: int | None = None


@dataclass(frozen=True)
class NetworkConfig:
    """The shapes and the arithmetic of a network of any family.

    The names are those of google-research/bert where it has one.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    #: longest sequence that the positions allow; rotary ones may allow more
    max_position_embeddings: int
    #: kinds of segment; 0: no table of segments
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float = 1e-12
    family: str = "BERT"
    #: width of the embeddings before they are projected to ``hidden_size``; None: the same, and
    #: no projection
    embedding_size: int | None = None
    #: rows of the position table before that of the first position
    position_offset: int = 0
    #: id of the padding token, if a padding token in a text takes the row before the first
    #: position and is not counted; None if it is a token like any other
    padding_id: int | None = None
    #: rows of the table of relative attention biases (MPNet); 0: no such table
    relative_buckets: int = 0
    #: of each layer: its rotary positions; empty: a table of absolute positions
    rotary: tuple[Rotary, ...] = ()
    #: of each layer: how far a token sees to either side, None for all the way; empty: all layers
    #: see all
    window: tuple[int | None, ...] = ()
    #: for each layer, the stored layer that has its weights; empty: no layers share weights
    shared_layers: tuple[int, ...] = ()
    #: LayerNorm before attention and feed-forward, and once at the end; otherwise after them
    pre_norm: bool = False
    #: the feed-forward layer multiplies the activation with a second product (GLU)
    gated: bool = False
    attention_bias: bool = True
    feed_forward_bias: bool = True
    norm_bias: bool = True
    head_bias: bool = True
    #: the classifier's activation, its pooling (``cls`` or ``mean``), whether it has a LayerNorm
    head_act: str = "tanh"
    head_pooling: str = "cls"
    head_norm: bool = False
    #: the masked-LM head's activation, and whether its last product is the table of words
    masked_lm_act: str = "gelu"
    tied_embeddings: bool = True

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def embedding_width(self) -> int:
        """Width of the tables of embeddings."""
        return self.embedding_size or self.hidden_size

    def stored_layer(self, index: int) -> int:
        """Return the number of the stored layer that has the weights of layer ``index``."""
        return self.shared_layers[index] if self.shared_layers else index


def shown(value: object) -> str:
    """``repr`` of a value out of a file, shortened, for a message."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text)} characters)"


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        MissingFile, BrokenFile: the file is not there, or holds something else.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise BrokenFile(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def check_readable(path: Path) -> None:
    """Check that a file can be opened.

    Raises:
        MissingFile: it does not exist.
        BrokenFile: it cannot be opened; the message has the reason of the system.
    """
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise MissingFile(f"no such file: {path}") from None
    except PermissionError as error:
        raise BrokenFile(
            f"{path} cannot be opened: {error.strerror}: give the user of this process the right "
            "to read it"
        ) from None
    except OSError as error:
        raise BrokenFile(f"{path} cannot be opened: {error.strerror}") from None


def read_json_value(path: Path) -> Any:
    """Read a file that holds JSON of any kind; the errors are those of ``read_json``."""
    check_readable(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFile(f"{path} cannot be read as JSON: {type(error).__name__}") from error
