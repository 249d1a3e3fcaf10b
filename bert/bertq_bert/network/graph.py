"""The BERT encoder as traced TensorFlow functions that hold their weights.

Importing this module imports TensorFlow.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.config import NetworkConfig
from bertq_bert.errors import OutOfMemory
from bertq_bert.network.network import Network
from bertq_bert.pooling import Pooling

#: oneDNN (2.18-2.21 of TensorFlow) packs a constant matrix once, for float32 products of 8 to 95
#: rows in another way than for those of 96 and more (and of fewer than 8); the kernel of a node
#: keeps one packed copy, and packs again at every call that wants the other. So each size has its
#: own nodes.
_FEW_TOKENS, _MANY_TOKENS = 8, 96

#: Bytes of dense weights up to which they are constants. One sentence then takes 0.85 of the time
#: (four and more do not gain), but TensorFlow keeps a constant some nine times: the traced
#: function, its optimised forms, the tensor, the packed copy. A larger model is held once.
_MAX_CONSTANT_BYTES = 64 * 2**20

#: Parts of a layer on a CPU: two threads can share a batch when it is the only one. A batch of 8 or
#: 16 sentences then takes 0.6 of the time; on one thread, one sentence takes 1.06 and a full batch
#: 1.0. It does not depend on the number of threads: other parts would round differently.
_PARTS = 2


class Graph:
    """A network with its pooling: token ids in, float32 rows out. Safe in many threads."""

    def __init__(
        self,
        config: NetworkConfig,
        weights: Weights,
        pooling: Pooling,
        dtype: str,
        max_scores: int | None = None,
        *,
        max_constant_bytes: int = _MAX_CONSTANT_BYTES,
        cpu_parts: int = _PARTS,
    ) -> None:
        """Trace the network. ``weights`` is emptied: the graph keeps its own copy.

        Args:
            config, weights, pooling: the network and its pooling.
            dtype: of the dense layers.
            max_scores: most scores of attention (rows x heads x queries x keys) that are in memory
                at once; None for no bound.
            max_constant_bytes: dense weights up to this size are constants of the graph.
            cpu_parts: parts of a layer on a CPU, if they divide its heads and columns.

        Raises:
            UnknownDtype: a weight is out of ``dtype``'s range (float16).
        """
        # a GPU would multiply float32 with 10 bits of mantissa (TF32): 1e-3 off, not 2e-5
        tf.config.experimental.enable_tensor_float_32_execution(False)
        # not a constant: a table that is looked up gains nothing by it
        words = tf.constant(weights.pop("embeddings/word_embeddings"))  # [V, H]
        self.on_gpu = bool(tf.config.list_logical_devices("GPU"))
        odd = config.num_attention_heads % cpu_parts or config.intermediate_size % cpu_parts
        parts = 1 if odd or self.on_gpu else cpu_parts
        dense = sum(array.nbytes for array in weights.values())
        constant = dense <= max_constant_bytes and not self.on_gpu
        sizes = [_MANY_TOKENS, _FEW_TOKENS] if constant and dtype == "float32" else [_FEW_TOKENS]

        def network(min_tokens: int) -> Network:
            return Network(
                config, weights, pooling, dtype, words, min_tokens, constant, parts,
                max_scores=max_scores,
            )  # fmt: skip

        #: (fewest tokens of a batch that it is for, traced function), those for more first
        self.functions: list[tuple[int, Any]] = [
            (min_tokens, _trace(network(min_tokens))) for min_tokens in sizes
        ]
        weights.clear()

    def __call__(
        self,
        ids: npt.NDArray[np.int32],
        lengths: npt.NDArray[np.int32],
        marks: npt.NDArray[np.int32],
    ) -> Array:
        """Rows of one batch.

        Args:
            ids: int32 [N], the token ids of all rows end to end.
            lengths: int32 [B], tokens of each row, at least 1; their sum is N.
            marks: int32 [N], of each token (``sequences.marks``).

        Returns:
            float32 [B, dim]; for ``NONE`` [B, longest, dim] with zeros behind each row's end.

        Raises:
            OutOfMemory: the device has no room for the batch.
        """
        rows, fewest = len(lengths), self.functions[-1][0]
        if len(ids) < fewest:
            # a product of so few rows is done in another way: add rows of one token
            more = fewest - len(ids)
            ids, marks = (np.concatenate([x, np.zeros(more, np.int32)]) for x in (ids, marks))
            lengths = np.concatenate([lengths, np.ones(more, np.int32)])
        function = next(traced for min_tokens, traced in self.functions if len(ids) >= min_tokens)
        try:
            block = np.asarray(function(ids, lengths, marks).numpy(), dtype=np.float32)
        except (tf.errors.ResourceExhaustedError, MemoryError):
            # TensorFlow's own message is a page of names of tensors
            raise OutOfMemory(
                f"the device has no memory for {rows} sentences with {len(ids)} tokens: lower "
                "max_seq_len or max_batch_size, or run fewer workers on it"
            ) from None
        if len(block) == rows:
            return block
        return block[:rows, : lengths[:rows].max()] if block.ndim == 3 else block[:rows]


def _trace(network: "Network") -> Any:
    vector = tf.TensorSpec([None], tf.int32)
    function = tf.function(network.rows, input_signature=[vector] * 3, autograph=False)
    function.get_concrete_function()
    network.release()
    return function
