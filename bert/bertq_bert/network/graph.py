"""The network and its pooling as a traced TensorFlow function that contains its weights.

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

#: Minimum tokens of a batch: oneDNN uses another algorithm for a product of fewer rows.
_MIN_TOKENS = 8

#: Each pair: up to the first number, the tokens of a batch are a multiple of the second.
_STEPS = ((32, 2), (64, 4), (512, 16), (4096, 64), (2**31, 512))

#: Batches with fewer tokens have a function of their own.
#:
#: In bfloat16, only the other one uses the fused LayerNorm. For 20 tokens it takes 12 us, and the
#: public operations 7 us; for 512 tokens it takes 30 us, and they take 100 us. In float32, where
#: products take twice the time, the difference is 1 % of the time of a full batch; so all batches
#: use the public operations.
#:
#: In float32, only the function for small batches uses packed matrices: on a CPU of AMD's Zen 4,
#: one sentence takes 0.8 of the time with them, and a full batch 1.05.
_SMALL_TOKENS = 40

#: Maximum bytes of the dense weights, in float32, of a network with a function for small batches:
#: oneDNN stores a packed copy of each matrix for each function.
_MAX_PACKED_BYTES = 64 * 2**20

#: Maximum tokens of a row whose marks and places are cached for rows of the same length.
_MAX_CACHED_TOKENS = 512

#: Parts of a layer on a CPU, so that two threads can compute one batch together. This reduces the
#: time of a batch of 8 or 16 sentences to 0.6; on one thread, one sentence takes 1.06 of the time,
#: and a full batch 1.0. The number of parts does not depend on the number of threads, because rows
#: are rounded differently with another number of parts.
_PARTS = 2


class Graph:
    """A network with its pooling, which computes float32 rows of token ids; thread-safe."""

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
        """Trace the network. ``weights`` is emptied, because the graph has a copy of them.

        Args:
            config, weights, pooling: the network and its pooling.
            dtype: dtype of the dense layers and of the table of word embeddings.
            max_scores: maximum scores of attention (rows x heads x queries x keys) that are in
                memory at once; None for no maximum.
            cpu_parts: number of parts of a layer on a CPU, if it divides the heads and the
                intermediate size.
            is_fused: whether to use the operations of ``onednn``; None: if they work here.
            compiles: whether XLA compiles the shapes of batches that occur (``compiled``); then no
                batch uses the operations of ``onednn``; None: on a GPU only.
            cache: stores the functions that XLA compiles.
            fingerprint: fingerprint of the model, a part of the cache's key.

        Raises:
            UnknownDtype: a weight is out of the range of ``dtype`` (float16).
        """
        # By default, a GPU multiplies float32 with 10 bits of mantissa (TF32). That makes errors of
        # 1e-3 instead of 2e-5.
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
        is_bfloat16 = is_fused and dtype == "bfloat16"
        num_bytes = sum(array.nbytes for array in weights.values())
        has_two = is_fused and num_bytes <= _MAX_PACKED_BYTES
        large = _trace(network, has_fused_norm=is_bfloat16, is_packed=is_bfloat16)
        small = _trace(network, has_fused_norm=False, is_packed=True) if has_two else large
        #: the traced functions, by the minimum tokens of their batches
        self.functions = {0: small, _SMALL_TOKENS: large}
        self._calls = {tokens: direct_call(traced) for tokens, traced in self.functions.items()}
        self.max_scores = max_scores
        self.heads = config.num_attention_heads
        #: functions that XLA compiles; None if XLA is not used
        self.compiled: CompiledNetwork | None = None
        if compiles:
            self.compiled = self._compile(network, cache, fingerprint)
        network.release()
        weights.clear()

    def __call__(self, ids: Sequence[Sequence[int]]) -> Array:
        """Return the rows of one batch of sequences of token ids, none of which is empty.

        Returns:
            A float32 array [len(ids), dim]; for ``NONE`` [len(ids), tokens of the longest sequence,
            dim], with zeros after the last token of each sequence.

        Raises:
            OutOfMemory: the device has too little memory for the batch.
        """
        lengths = list(map(len, ids))
        try:
            block = self._compute(ids, lengths)
        except (tf.errors.ResourceExhaustedError, MemoryError):
            # TensorFlow's message is a page of tensor names.
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
        """Return the rows of a batch, perhaps followed by rows of padding."""
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
        call = self._calls[_SMALL_TOKENS if tokens >= _SMALL_TOKENS else 0]
        rows_of_batch: Array = call(tensors).numpy()
        return rows_of_batch


def _find_places(marks_of_tokens: bytes, lengths: tuple[int, ...]) -> list[Tensor]:
    """Return the marks and the places of tokens, in the order of the arguments of ``rows``."""
    tokens, slots = _round_tokens(len(marks_of_tokens)), padded_length(max(lengths))
    places = TokenPlaces.of(np.array(lengths, np.int32), round_up(len(lengths)), tokens, slots)
    return [make_tensor(array) for array in (widen(marks_of_tokens, tokens), *places)]


#: ``_find_places`` with a cache, for batches of one row: texts of the same length have the same
#: marks and places.
_find_places_of_row = functools.lru_cache(maxsize=512)(_find_places)


def _round_tokens(tokens: int) -> int:
    """Return the number of tokens to which a batch is padded.

    oneDNN compiles and stores code for each number of rows of a product, 0.2 to 0.6 MB.
    """
    step = next(step for most, step in _STEPS if tokens <= most)
    return max(_MIN_TOKENS, -(-tokens // step) * step)


def _trace(network: Network, *, has_fused_norm: bool, is_packed: bool) -> Any:
    network.dense.has_fused_norm = has_fused_norm
    network.dense.is_packed = is_packed
    return network.trace()
