"""The hyper-parameters of a network, from ``bert_config.json`` or ``config.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertq_bert.errors import BrokenFile, MissingFile

#: Activations by their names in transformers. ``gelu`` is the exact form (erf): the reference
#: vectors of bert-as-service agree with it, and not with the tanh form.
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
    #: factor of NTK-aware scaling for longer sequences (https://kexue.fm/archives/9706); 1: none
    ntk_factor: float = 1.0
    #: number by which positions are divided (linear interpolation)
    position_divisor: float = 1.0
    #: maximum sequence length for which the positions are valid; None: no maximum
    longest: int | None = None


@dataclass(frozen=True)
class NetworkConfig:
    """The hyper-parameters of a network of any family.

    The names are those of google-research/bert, if it has the parameter.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    #: maximum sequence length for the positions; rotary positions may allow longer sequences
    max_position_embeddings: int
    #: number of segment types; 0: no table of segments
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float = 1e-12
    family: str = "BERT"
    #: width of the embeddings before they are projected to ``hidden_size``; None: they have that
    #: width, and there is no projection
    embedding_size: int | None = None
    #: number of rows of the position table before the first position
    position_offset: int = 0
    #: id of the padding token, if a padding token in a text has the row before the first position
    #: and does not count as a position; None if it is like other tokens
    padding_id: int | None = None
    #: rows of the table of relative attention biases (MPNet); 0: no such table
    relative_buckets: int = 0
    #: rotary positions of each layer; empty: a table of absolute positions
    rotary: tuple[Rotary, ...] = ()
    #: for each layer, the maximum distance of tokens to which a token attends, None for all tokens;
    #: empty: all tokens in all layers
    window: tuple[int | None, ...] = ()
    #: for each layer, the number of the stored layer with its weights; empty: no shared weights
    shared_layers: tuple[int, ...] = ()
    #: whether LayerNorm is before attention and before the feed-forward layer, and once after the
    #: last layer; otherwise it is after them
    pre_norm: bool = False
    #: whether the feed-forward layer multiplies the activation by a second product (GLU)
    gated: bool = False
    attention_bias: bool = True
    feed_forward_bias: bool = True
    norm_bias: bool = True
    head_bias: bool = True
    #: activation of the classifier
    head_act: str = "tanh"
    #: pooling of the classifier: ``cls`` or ``mean``
    head_pooling: str = "cls"
    #: whether the classifier has a LayerNorm
    head_norm: bool = False
    #: activation of the masked-LM head
    masked_lm_act: str = "gelu"
    #: whether the decoder of the masked-LM head is the table of word embeddings
    tied_embeddings: bool = True

    @property
    def head_size(self) -> int:
        """The width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def embedding_width(self) -> int:
        """The width of the tables of embeddings."""
        return self.embedding_size or self.hidden_size

    def stored_layer(self, index: int) -> int:
        """Return the number of the stored layer with the weights of layer ``index``."""
        return self.shared_layers[index] if self.shared_layers else index


def shown(value: object) -> str:
    """Return the ``repr`` of a value in a file, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text)} characters)"


def read_json(path: Path) -> dict[str, Any]:
    """Read a file with a JSON object.

    Raises:
        MissingFile: the file does not exist.
        BrokenFile: the file cannot be read, or is not a JSON object.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise BrokenFile(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def check_readable(path: Path) -> None:
    """Check that a file can be opened.

    Raises:
        MissingFile: the file does not exist.
        BrokenFile: the file cannot be opened; the message has the reason of the operating system.
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
    """Read a file with any JSON value.

    Raises:
        MissingFile: the file does not exist.
        BrokenFile: the file cannot be read, or is not JSON.
    """
    check_readable(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFile(f"{path} cannot be read as JSON: {type(error).__name__}") from error
