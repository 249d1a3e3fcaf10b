"""Pooling of token vectors to rows, as TensorFlow operations.

The letters in shapes are those of ``network``, and X is the size of a token's vector. ``mask`` [N]
is true for tokens that the pooling includes; None includes all. A row without such a token is
zeros, except in the modes ``cls`` and ``lasttoken``. The modes are those of sentence-transformers.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from bertq_bert.network.token_layout import Tensor, TokenLayout


def reduce(modes: tuple[str, ...], x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Pool the tokens of each row.

    Args:
        modes: pooling modes.
        x: [N, X], the token vectors.
        layout: the places of the tokens.
        mask: the tokens that the pooling includes.

    Returns:
        The concatenated results of the modes, each [B, X]; for ``none``, the tokens [B, T, X].
    """
    if modes == ("none",):
        return padded(x, layout, mask)
    rows = [_MODES[mode](x, layout, mask) for mode in modes]
    return rows[0] if len(rows) == 1 else tf.concat(rows, 1)


def mean(x: Tensor, layout: TokenLayout, mask: Tensor = None, *, root: bool = False) -> Tensor:
    """Return the mean of the tokens of each row: [N, X] -> [B, X].

    With ``root``, the sum is divided by the square root of the number of tokens.
    """
    if mask is None:
        number = tf.cast(layout.lengths, tf.float32)[:, None]  # [B, 1]
    else:
        x = tf.where(mask[:, None], x, 0.0)
        number = tf.maximum(count(layout, mask), 1.0)  # [B, 1]
    sums = layout.sum(x)  # [B, X]
    return sums / (tf.sqrt(number) if root else number)


def weighted_mean(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Return the mean of the tokens of each row, weighted by position from 1: [N, X] -> [B, X]."""
    weights = tf.cast(layout.position + 1, tf.float32)[:, None]  # [N, 1]
    if mask is not None:
        weights = tf.where(mask[:, None], weights, 0.0)
    sums = layout.sum(x * weights)  # [B, X]
    return sums / tf.maximum(layout.sum(weights), 1e-9)


def maximum(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Return the maximum of the tokens of each row, by column: [N, X] -> [B, X]."""
    if mask is None:
        return layout.max(x)
    greatest = layout.max(tf.where(mask[:, None], x, x.dtype.min))  # [B, X]
    return tf.where(count(layout, mask) > 0, greatest, 0.0)


def first(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Return the first token of each row that the pooling includes: [N, X] -> [B, X]."""
    return tf.gather(x, first_token_index(layout, mask))


def first_token_index(layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Return the flat index of the first token of each row that the pooling includes.

    Returns:
        The indices [B]. If the pooling includes no token of a row, the index is that of its first
        token.
    """
    if mask is None:
        return layout.starts
    index = tf.where(mask, layout.position, tf.int32.max)  # [N]
    lowest = layout.min(index)  # [B]
    return layout.starts + tf.where(lowest < layout.lengths, lowest, 0)


def last(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Return the last token of each row, even if ``mask`` excludes it: [N, X] -> [B, X]."""
    return tf.gather(x, layout.last)


def padded(x: Tensor, layout: TokenLayout, mask: Tensor = None) -> Tensor:
    """Return the tokens of each row, padded with zeros: [N, X] -> [B, T, X]."""
    x = x if mask is None else tf.where(mask[:, None], x, 0.0)
    return tf.where(layout.is_token[:, :, None], layout.pad(x), 0.0)


def count(layout: TokenLayout, mask: Tensor) -> Tensor:
    """Return the number of tokens of each row that the pooling includes: float32 [B, 1]."""
    return layout.sum(tf.cast(mask, tf.float32))[:, None]


_MODES: dict[str, Callable[..., Tensor]] = {
    "mean": mean,
    "mean_sqrt_len_tokens": functools.partial(mean, root=True),
    "weightedmean": weighted_mean,
    "max": maximum,
    "cls": first,
    "lasttoken": last,
}
