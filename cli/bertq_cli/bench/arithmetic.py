"""Known arithmetic of a network: the operations that its texts take, and the bytes of its weights.

Only products of matrices are counted, as two operations for each multiplication and addition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertq_bert.config import NetworkConfig

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class Arithmetic:
    """The products of a network.

    Attributes:
        layer_parameters: numbers in the matrices of one layer.
        hidden_size: width of a token's vector.
        reach: of each computed layer, how far a token attends to either side; None for all tokens.
        embedding_parameters: numbers in the projection of the embeddings; 0 without one.
    """

    layer_parameters: int
    hidden_size: int
    reach: tuple[int | None, ...]
    embedding_parameters: int = 0

    @classmethod
    def of_network(cls, config: "NetworkConfig", layers: int) -> "Arithmetic":
        """Return the products of the first ``layers`` layers of a network."""
        hidden, inner = config.hidden_size, config.intermediate_size
        attention = 4 * hidden * hidden  # query, key, value, output
        feed_forward = (3 if config.gated else 2) * hidden * inner
        projection = (config.embedding_size or 0) * hidden
        reach = (config.window or (None,) * layers)[:layers]
        return cls(attention + feed_forward, hidden, reach, projection)

    @property
    def parameters(self) -> int:
        """Numbers in all matrices, without the tables of embeddings, of which few rows are read."""
        return self.layer_parameters * len(self.reach) + self.embedding_parameters

    def weight_bytes(self, dtype: str) -> int:
        """Return the bytes of all matrices in a dtype."""
        return self.parameters * _BYTES[dtype]

    def operations(self, lengths: Sequence[int]) -> int:
        """Return the operations for texts with these numbers of tokens, without padding."""
        products = 2 * self.parameters * sum(lengths)
        # Each token multiplies its query with the keys that it attends to, and then sums up their
        # values.
        pairs = sum(
            tokens * (tokens if reach is None else min(tokens, 2 * reach + 1))
            for tokens in lengths
            for reach in self.reach
        )
        return products + 2 * 2 * self.hidden_size * pairs


def read_arithmetic(model_dir: Path, last_layer: int = -1) -> Arithmetic:
    """Return the products of a model up to a layer; -1 is its last one.

    Raises:
        ModelError: the model cannot be used.
        ImportError: the tokenizer is not installed.
    """
    from bertq_bert import read_source

    config = read_source(model_dir, compat="bert-as-service", max_seq_len="none").config
    return Arithmetic.of_network(config, config.num_hidden_layers + 1 + last_layer)
