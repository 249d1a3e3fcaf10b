"""From the vectors of a row's tokens to the row, in TensorFlow's graph.

Shapes as in ``network``, X numbers in a token's vector. ``mask`` [N] says which tokens count, None
that all do; a row without such a token is zeros. The modes are those of sentence-transformers.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from bertq_bert.network.token_layout import Tensor, TokenLayout


def reduce(modes: tuple[str, ...], x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """x [N, X] -> [B, X] for each of the modes, side by side; or [B, T, X] for ``none``."""
    if modes == ("none",):
        return padded(x, layout, mask)
    rows = [_MODES[mode](x, layout, mask) for mode in modes]
    return rows[0] if len(rows) == 1 else tf.concat(rows, 1)


def mean(x: Tensor, layout: TokenLayout, mask: Tensor = None, *, root: bool = False) -> Tensor:
    """Sum of each row's tokens by their number, or by its square root: [N, X] -> [B, X]."""
    if mask is None:
        number = tf.cast(layout.lengths, tf.float32)[:, None]  # [B, 1]
    else:
        x = tf.where(mask[:, None], x, 0.0)
        number = tf.maximum(count(layout, mask), 1.0)  # [B, 1]
    sums = layout.sum(x)  # [B, X]
    return sums / (tf.sqrt(number) if root else number)


def weighted_mean(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Mean of each row's tokens, weighted by their positions from 1 on: [N, X] -> [B, X]."""
    weights = tf.cast(layout.position + 1, tf.float32)[:, None]  # [N, 1]
    if mask is not None:
        weights = tf.where(mask[:, None], weights, 0.0)
    sums = layout.sum(x * weights)  # [B, X]
    return sums / tf.maximum(layout.sum(weights), 1e-9)


def maximum(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Greatest number of each row's tokens, column by column: [N, X] -> [B, X]."""
    if mask is None:
        return layout.max(x)
    greatest = layout.max(tf.where(mask[:, None], x, x.dtype.min))  # [B, X]
    return tf.where(count(layout, mask) > 0, greatest, 0.0)


def first(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Each row's first token that counts: [N, X] -> [B, X]."""
    return tf.gather(x, first_token_index(layout, mask))


def first_token_index(layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Flat index of each row's first token that counts, or else of its first one: [B]."""
    if mask is None:
        return layout.starts
    index = tf.where(mask, layout.position, tf.int32.max)  # [N]
    lowest = layout.min(index)  # [B]
    return layout.starts + tf.where(lowest < layout.lengths, lowest, 0)


def last(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Each row's last token: [N, X] -> [B, X]. It is never left out of the pooling."""
    return tf.gather(x, layout.last)


def padded(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Each row's tokens, zeros behind them: [N, X] -> [B, T, X]."""
    x = x if mask is None else tf.where(mask[:, None], x, 0.0)
    return tf.where(layout.is_token[:, :, None], layout.pad(x), 0.0)


def count(layout: TokenLayout, mask: Tensor) -> Tensor:
    """Count the pooled tokens of each row: float32 [B, 1]."""
    return layout.sum(tf.cast(mask, tf.float32))[:, None]


_MODES: dict[str, Callable[..., Tensor]] = {
    "mean": mean,
    "mean_sqrt_len_tokens": functools.partial(mean, root=True),
    "weightedmean": weighted_mean,
    "max": maximum,
    "cls": first,
    "lasttoken": last,
}
