"""The BERT encoder as a traced TensorFlow function that holds its weights.

Importing this module imports TensorFlow.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array, Weights
from bertq_bert.compile_cache import CompileCache
from bertq_bert.config import NetworkConfig
from bertq_bert.errors import OutOfMemory
from bertq_bert.network import onednn
from bertq_bert.network.calls import direct_call, make_tensor
from bertq_bert.network.compiled import CompiledNetwork, describe_device
from bertq_bert.network.network import Network
from bertq_bert.network.padding import TokenPlaces, flatten, padded_length, round_up, widen
from bertq_bert.network.token_layout import Tensor
from bertq_bert.pooling import Pooling
from bertq_bert.tokenizing.sequences import marks

#: oneDNN multiplies fewer rows than this in another way.
_MIN_TOKENS = 8

#: The number of tokens of a batch is a multiple of the second number, up to the first.
_STEPS = ((32, 2), (64, 4), (512, 16), (4096, 64), (2**31, 512))

#: Tokens from which on the fused LayerNorm is faster: for 20 it takes 12 us where the public
#: operations take 7, for 512 it takes 30 where they take 100. In float32, where the products take
#: twice the time, that is 1 % of a full batch, and all batches have the public operations.
_FUSED_NORM_TOKENS = 40

#: Bytes of dense weights up to which smaller batches have a function of their own in bfloat16:
#: oneDNN keeps a packed copy of each matrix for each function.
_MAX_PACKED_TWICE_BYTES = 64 * 2**20

#: Tokens of a row up to which its marks and places are kept for other rows.
_MAX_CACHED_TOKENS = 512

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
        cpu_parts: int = _PARTS,
        is_fused: bool | None = None,
        compiles: bool | None = None,
        cache: CompileCache | None = None,
        fingerprint: str = "",
    ) -> None:
        """Trace the network. ``weights`` is emptied: the graph keeps its own copy.

        Args:
            config, weights, pooling: the network and its pooling.
            dtype: of the dense layers and of the table of words.
            max_scores: most scores of attention (rows x heads x queries x keys) that are in memory
                at once; None for no bound.
            cpu_parts: parts of a layer on a CPU, if they divide its heads and columns.
            is_fused: whether to use the operations of ``onednn``; None: if they work here.
            compiles: whether XLA compiles the shapes of batches that are used (``compiled``), which
                then are computed without the operations of ``onednn``; None: on a GPU.
            cache: stores what XLA compiles.
            fingerprint: of the model, for the cache.

        Raises:
            UnknownDtype: a weight is out of ``dtype``'s range (float16).
        """
        # a GPU would multiply float32 with 10 bits of mantissa (TF32): 1e-3 off, not 2e-5
        tf.config.experimental.enable_tensor_float_32_execution(dtype == "tf32")
        dtype = "float32" if dtype == "tf32" else dtype
        self.on_gpu = bool(tf.config.list_logical_devices("GPU"))
        odd = config.num_attention_heads % cpu_parts or config.intermediate_size % cpu_parts
        if compiles is None:
            compiles = self.on_gpu
        parts = 1 if odd or compiles else cpu_parts
        if is_fused is None:
            is_fused = not compiles and onednn.is_usable(dtype)
        network = Network(
            config, weights, pooling, dtype, _MIN_TOKENS, parts,
            is_fused=is_fused, max_scores=max_scores,
        )  # fmt: skip
        has_fused_norm = is_fused and dtype != "float32"
        is_small = sum(array.nbytes for array in weights.values()) <= _MAX_PACKED_TWICE_BYTES
        #: the traced functions, by the fewest tokens of a batch that each is for
        self.functions = {_FUSED_NORM_TOKENS: _trace(network, has_fused_norm=has_fused_norm)}
        self.functions[0] = (
            _trace(network, has_fused_norm=False)
            if has_fused_norm and is_small
            else self.functions[_FUSED_NORM_TOKENS]
        )
        self._calls = {tokens: direct_call(traced) for tokens, traced in self.functions.items()}
        self.max_scores = max_scores
        self.heads = config.num_attention_heads
        #: shapes of batches that XLA has compiled, if it shall
        self.compiled: CompiledNetwork | None = None
        if compiles:
            self.compiled = self._compile(network, cache, fingerprint)
        network.release()
        weights.clear()

    def __call__(self, ids: Sequence[Sequence[int]]) -> Array:
        """Rows of one batch of sequences of token ids, none of them empty.

        Returns:
            float32 [len(ids), dim]; for ``NONE`` [len(ids), longest, dim] with zeros behind each
            row's end.

        Raises:
            OutOfMemory: the device has no room for the batch.
        """
        lengths = list(map(len, ids))
        try:
            block = self._compute(ids, lengths)
        except (tf.errors.ResourceExhaustedError, MemoryError):
            # TensorFlow's own message is a page of names of tensors
            raise OutOfMemory(
                f"the device has no memory for {len(ids)} sentences with {sum(lengths)} tokens: "
                "lower max_seq_len or max_batch_size, or run fewer workers on it"
            ) from None
        return block[: len(ids), : max(lengths)] if block.ndim == 3 else block[: len(ids)]

    def _compile(
        self, network: Network, cache: CompileCache | None, fingerprint: str
    ) -> CompiledNetwork:
        compiled = CompiledNetwork(
            network.trace(is_static=True), padded_length(network.config.max_position_embeddings)
        )
        if cache is not None:
            compiled.on_start = functools.partial(
                cache.load,
                tensorflow=f"{tf.__version__} {tf.__git_version__}",
                device=describe_device(),
                fingerprint=fingerprint,
            )
            compiled.on_compiled = cache.store
        return compiled

    def _compute(self, ids: Sequence[Sequence[int]], lengths: list[int]) -> Array:
        """Return the rows of a batch, and perhaps of padding behind them."""
        count = sum(lengths)
        if self.compiled is not None:
            rows, longest = len(ids), max(lengths)
            scores = rows * self.heads * longest**2
            if self.max_scores is None or scores <= self.max_scores:
                shape = self.compiled.choose(rows, count, longest)
                if shape is not None:
                    return self.compiled(shape, ids)
        tokens = _round_tokens(count)
        is_short_row = len(ids) == 1 and count <= _MAX_CACHED_TOKENS
        find = _find_places_of_row if is_short_row else _find_places
        tensors = [make_tensor(flatten(ids, tokens)), *find(marks(ids), tuple(lengths))]
        call = self._calls[_FUSED_NORM_TOKENS if tokens >= _FUSED_NORM_TOKENS else 0]
        rows_of_batch: Array = call(tensors).numpy()
        return rows_of_batch


def _find_places(marks_of_tokens: bytes, lengths: tuple[int, ...]) -> list[Tensor]:
    """Return the marks of tokens and their places, as ``Network.rows`` takes them."""
    tokens, slots = _round_tokens(len(marks_of_tokens)), padded_length(max(lengths))
    places = TokenPlaces.of(np.array(lengths, np.int32), round_up(len(lengths)), tokens, slots)
    return [make_tensor(array) for array in (widen(marks_of_tokens, tokens), *places)]


#: The same for a batch of one row: texts of one length have the same marks and places.
_find_places_of_row = functools.lru_cache(maxsize=512)(_find_places)


def _round_tokens(tokens: int) -> int:
    """Return the number of tokens that a batch is padded to.

    oneDNN prepares code for each number of rows of a product and keeps it, 0.2 to 0.6 MB.
    """
    step = next(step for most, step in _STEPS if tokens <= most)
    return max(_MIN_TOKENS, -(-tokens // step) * step)


def _trace(network: Network, *, has_fused_norm: bool) -> Any:
    network.dense.has_fused_norm = has_fused_norm
    return network.trace()
