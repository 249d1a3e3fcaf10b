"""Every strategy against the numpy reference, on small random models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import POOLING_STRATEGIES, load_encoder
from tests.bert.checkpoints import TINY, tiny_variables, write_tiny_google, write_tiny_hf
from tests.bert.reference import Reference

LENGTH = 12


def sequences(count: int = 9, longest: int = LENGTH, seed: int = 0) -> list[list[int]]:
    """Rows of random ids, of 1 to `longest` ids each, the longest among them."""
    rng = np.random.default_rng(seed)
    sizes = [*rng.integers(1, longest, count - 1, endpoint=True), longest]
    return [[int(n) for n in rng.integers(0, TINY["vocab_size"], size)] for size in sizes]


def expected(strategy: str, layers: Sequence[int], *, seed: int = 0, **config: Any) -> Any:
    values = TINY | config
    return Reference(values, tiny_variables(values, seed), sequences(), LENGTH).rows(
        strategy, layers
    )


@pytest.mark.parametrize("layers", [(-1,), (-2,), (-4,), (-1, -2), (-3, -1, -4)])
@pytest.mark.parametrize("strategy", POOLING_STRATEGIES[:9])  # tests/bert/test_options.py: heads
def test_strategies(tiny_google: Path, strategy: str, layers: tuple[int, ...]) -> None:
    encoder = load_encoder(
        tiny_google, max_seq_len=LENGTH, pooling_strategy=strategy, pooling_layers=layers
    )
    rows = encoder.compute(sequences())
    wanted = expected(strategy, layers)
    assert rows.shape == wanted.shape == (9, *encoder.row_shape)
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_activations(tmp_path: Path, activation: str) -> None:
    model = write_tiny_hf(tmp_path, hidden_act=activation)
    rows = load_encoder(model, max_seq_len=LENGTH).compute(sequences())
    wanted = expected("REDUCE_MEAN", (-2,), hidden_act=activation)
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)
    others = {"gelu", "gelu_new", "relu"} - {activation.replace("pytorch_tanh", "new")}
    for other in others:
        assert np.abs(rows - expected("REDUCE_MEAN", (-2,), hidden_act=other)).max() > 2e-4


@pytest.mark.parametrize(
    "config",
    [
        {"layer_norm_eps": 0.1},
        {"num_attention_heads": 1},
        {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 20, "seed": 3},
    ],
)
def test_other_configs(tmp_path: Path, config: dict[str, Any]) -> None:
    model = write_tiny_google(tmp_path, **config)
    rows = load_encoder(model, max_seq_len=LENGTH).compute(sequences())
    wanted = expected("REDUCE_MEAN", (-2,), **config)
    np.testing.assert_allclose(rows, wanted, atol=2e-5, rtol=0)


def test_both_layouts_and_names_give_the_same_rows(tiny_google: Path, tmp_path: Path) -> None:
    rows = load_encoder(tiny_google).compute(sequences())
    for prefix in ("", "bert."):
        other = load_encoder(write_tiny_hf(tmp_path / f"model{prefix}", prefix=prefix))
        np.testing.assert_array_equal(other.compute(sequences()), rows)
