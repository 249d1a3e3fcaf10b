from collections.abc import Sequence
from typing import Any

import pytest

from bertq_bert.errors import ModelError, UnknownDtype, UnknownLayer, UnknownPooling
from bertq_bert.pooling import DTYPES, POOLING_STRATEGIES, check_dtype, plan_pooling


@pytest.mark.parametrize(
    ("layers", "depth"), [((-1,), 12), ((-2,), 11), ((-12,), 1), ((-4, -1, -2), 12), ((-3, -7), 10)]
)
def test_computes_no_layer_above_the_highest(layers: tuple[int, ...], depth: int) -> None:
    assert plan_pooling("REDUCE_MEAN", layers, 12).depth == depth


def test_width() -> None:
    assert plan_pooling("REDUCE_MAX", [-1], 12).width(768) == 768
    assert plan_pooling("REDUCE_MEAN", [-1, -2], 12).width(768) == 1536
    assert plan_pooling("REDUCE_MEAN_MAX", [-1, -2], 12).width(768) == 3072


def test_synonyms_are_one_plan() -> None:
    assert plan_pooling("FIRST_TOKEN", [-2], 6) == plan_pooling("CLS_TOKEN", [-2], 6)
    assert plan_pooling("LAST_TOKEN", [-2], 6) == plan_pooling("SEP_TOKEN", [-2], 6)
    assert plan_pooling("LAST_TOKEN", [-2], 6) != plan_pooling("CLS_TOKEN", [-2], 6)


def test_the_pooler_reads_the_last_layer() -> None:
    plan = plan_pooling("CLS_POOLED", [-3, -4], 6)
    assert (plan.layers, plan.depth, plan.needs_pooler) == ((-1,), 6, True)


@pytest.mark.parametrize("strategy", ["MEAN", "reduce_mean", "", "CLASSIFY"])
def test_unknown_strategy_lists_the_valid_ones(strategy: str) -> None:
    with pytest.raises(UnknownPooling) as caught:
        plan_pooling(strategy, [-1], 6)
    assert repr(strategy) in str(caught.value)
    assert all(name in str(caught.value) for name in POOLING_STRATEGIES)


@pytest.mark.parametrize("layers", [[0], [5], [-7], [-1, -7], [-1, 0], [True], ["-1"], [-1.0]])
def test_layer_out_of_range(layers: Sequence[Any]) -> None:
    with pytest.raises(UnknownLayer, match=r"6 encoder layers, give -1 \(the last\) to -6"):
        plan_pooling("REDUCE_MEAN", layers, 6)


def test_no_layer() -> None:
    with pytest.raises(UnknownLayer, match=r"no pooling layer: give at least one of -1\.\.-6"):
        plan_pooling("REDUCE_MEAN", [], 6)


def test_dtypes() -> None:
    for dtype in DTYPES:
        check_dtype(dtype)
    with pytest.raises(UnknownDtype, match="'float64' is unknown: use one of float32, tf32"):
        check_dtype("float64")


def test_options_are_value_errors_too() -> None:
    for error in (UnknownPooling, UnknownLayer, UnknownDtype):
        assert issubclass(error, ModelError)
        assert issubclass(error, ValueError)
