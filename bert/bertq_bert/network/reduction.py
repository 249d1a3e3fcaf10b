"""From the vectors of a row's tokens to the row, in TensorFlow's graph.

Shapes as in ``network``, X numbers in a token's vector. ``kept`` [N] says which tokens count, None
that all do; a row without a kept token is zeros. The modes are those of sentence-transformers.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from bertq_bert.network.places import Places, Tensor


def reduce(modes: tuple[str, ...], x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """x [N, X] -> [B, X] for each of the modes, side by side; or [B, longest, X] for ``none``."""
    if modes == ("none",):
        return padded(x, places, kept)
    rows = [_MODES[mode](x, places, kept) for mode in modes]
    return rows[0] if len(rows) == 1 else tf.concat(rows, 1)


def mean(x: Tensor, places: Places, kept: Tensor = None, *, root: bool = False) -> Tensor:
    """Sum of each row's tokens by their number, or by its square root: [N, X] -> [B, X]."""
    if kept is None:
        number = tf.cast(places.lengths, tf.float32)[:, None]  # [B, 1]
    else:
        x = tf.where(kept[:, None], x, 0.0)
        number = tf.maximum(count(places, kept), 1.0)  # [B, 1]
    sums = tf.math.segment_sum(x, places.row)  # [B, X]
    return sums / (tf.sqrt(number) if root else number)


def weighted_mean(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Mean of each row's tokens, weighted by their positions from 1 on: [N, X] -> [B, X]."""
    weights = tf.cast(places.position + 1, tf.float32)[:, None]  # [N, 1]
    if kept is not None:
        weights = tf.where(kept[:, None], weights, 0.0)
    sums = tf.math.segment_sum(x * weights, places.row)  # [B, X]
    return sums / tf.maximum(tf.math.segment_sum(weights, places.row), 1e-9)


def most(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Greatest number of each row's tokens, column by column: [N, X] -> [B, X]."""
    if kept is None:
        return tf.math.segment_max(x, places.row)
    greatest = tf.math.segment_max(tf.where(kept[:, None], x, x.dtype.min), places.row)  # [B, X]
    return tf.where(count(places, kept) > 0, greatest, 0.0)


def first(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Each row's first token that is kept: [N, X] -> [B, X]."""
    return tf.gather(x, first_place(places, kept))


def first_place(places: Places, kept: Tensor = None) -> Tensor:
    """Flat index of each row's first token that is kept, or else of its first one: [B]."""
    if kept is None:
        return places.starts
    index = tf.where(kept, places.position, tf.int32.max)  # [N]
    lowest = tf.math.segment_min(index, places.row)  # [B]
    return places.starts + tf.where(lowest < places.lengths, lowest, 0)


def last(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Each row's last token: [N, X] -> [B, X]. It is never left out of the pooling."""
    return tf.gather(x, places.last)


def padded(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Each row's tokens, zeros behind them: [N, X] -> [B, longest, X]."""
    x = x if kept is None else tf.where(kept[:, None], x, 0.0)
    block = tf.where(places.real[:, :, None], places.pad(x), 0.0)  # [B, T, X]
    return block[:, : tf.reduce_max(places.lengths)]


def count(places: Places, kept: Tensor) -> Tensor:
    """How many tokens of each row are kept: float32 [B, 1]."""
    return tf.math.segment_sum(tf.cast(kept, tf.float32), places.row)[:, None]


_MODES: dict[str, Callable[..., Tensor]] = {
    "mean": mean,
    "mean_sqrt_len_tokens": functools.partial(mean, root=True),
    "weightedmean": weighted_mean,
    "max": most,
    "cls": first,
    "lasttoken": last,
}
