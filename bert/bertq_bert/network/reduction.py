"""From the vectors of a row's tokens to the row, in TensorFlow's graph: ``REDUCE_*`` and ``NONE``.

Shapes as in ``network``, X numbers in a token's vector. ``kept`` [N] says which tokens count, None
that all do; a row of which none is kept is zeros.
"""

import tensorflow as tf

from bertq_bert.network.places import Places, Tensor


def reduce(strategy: str, x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """x [N, X] -> [B, X], or [B, 2X] for REDUCE_MEAN_MAX, or [B, longest, X] for NONE."""
    match strategy:
        case "REDUCE_MEAN":
            return mean(x, places, kept)
        case "REDUCE_MAX":
            return most(x, places, kept)
        case "REDUCE_MEAN_MAX":
            return tf.concat([mean(x, places, kept), most(x, places, kept)], 1)
        case _:
            return padded(x, places, kept)


def mean(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Mean of each row's tokens: [N, X] -> [B, X]."""
    if kept is None:
        return tf.math.segment_sum(x, places.row) / tf.cast(places.lengths, tf.float32)[:, None]
    sums = tf.math.segment_sum(tf.where(kept[:, None], x, 0.0), places.row)  # [B, X]
    return sums / tf.maximum(count(places, kept), 1.0)


def most(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Greatest number of each row's tokens, column by column: [N, X] -> [B, X]."""
    if kept is None:
        return tf.math.segment_max(x, places.row)
    greatest = tf.math.segment_max(tf.where(kept[:, None], x, x.dtype.min), places.row)  # [B, X]
    return tf.where(count(places, kept) > 0, greatest, 0.0)


def padded(x: Tensor, places: Places, kept: Tensor = None) -> Tensor:
    """Each row's tokens, zeros behind them: [N, X] -> [B, longest, X]."""
    x = x if kept is None else tf.where(kept[:, None], x, 0.0)
    block = tf.where(places.real[:, :, None], places.pad(x), 0.0)  # [B, T, X]
    return block[:, : tf.reduce_max(places.lengths)]


def count(places: Places, kept: Tensor) -> Tensor:
    """How many tokens of each row are kept: float32 [B, 1]."""
    return tf.math.segment_sum(tf.cast(kept, tf.float32), places.row)[:, None]
