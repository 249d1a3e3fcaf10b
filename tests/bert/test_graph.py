from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import load_encoder
from bertq_bert.checkpoint import read_weights
from bertq_bert.directory.layout import find_model
from bertq_bert.errors import UnknownDtype
from bertq_bert.families import read_config
from bertq_bert.pooling import plan_pooling
from bertq_bert.tokenizing.sequences import marks
from bertq_bert.variables import Parts
from tests.bert.checkpoints import write_tiny_hf
from tests.bert.test_parity import sequences


def make(  # type: ignore[no-untyped-def]
    model: Path,
    strategy: str = "REDUCE_MEAN",
    layer: int = -2,
    dtype: str = "float32",
    **options: int,
):
    from bertq_bert.network.graph import Graph

    files = find_model(model)
    family, config = read_config(files.config)
    pooling = plan_pooling(strategy, [layer], config.num_hidden_layers)
    weights = read_weights(files, family, config, Parts(pooling.needs_pooler))
    graph = Graph(config, weights, pooling, dtype, **options)
    assert weights == {}, "the graph must hold the only copy"
    return graph


def flat(*rows: list[int]) -> tuple[Any, Any, Any]:
    """The inputs of a graph for rows of ids."""
    lengths = np.array(list(map(len, rows)), np.int32)
    return np.concatenate(rows).astype(np.int32), lengths, marks(rows, lengths)


def operations(graph: Any) -> list[Counter[str]]:
    """How many operations of each kind the functions have, one for many tokens and one for few."""
    assert [floor for floor, _ in graph.functions] == [96, 8]
    return [
        Counter(op.type for op in traced.get_concrete_function().graph.get_operations())
        for _, traced in graph.functions
    ]


@pytest.mark.parametrize(("layer", "computed"), [(-1, 4), (-2, 3), (-3, 2), (-4, 1)])
def test_layers_above_the_highest_are_not_loaded(tiny_hf: Path, layer: int, computed: int) -> None:
    for kinds in operations(make(tiny_hf, layer=layer)):
        # per part of a layer: QKV, attention output, intermediate, output; Q K^T, softmax V
        assert kinds["MatMul"] == 2 * 4 * computed
        assert kinds["BatchMatMulV2"] == 2 * 2 * computed


def test_the_pooler_is_there_only_for_its_strategy(tiny_hf: Path) -> None:
    for kinds in operations(make(tiny_hf, "CLS_POOLED")):
        # Q of the highest layer is a separate product
        assert kinds["MatMul"] == 2 * (4 * 4 + 1) + 1


@pytest.mark.parametrize("strategy", ["CLS_TOKEN", "SEP_TOKEN", "CLS_POOLED"])
def test_the_highest_layer_computes_one_token_of_each_row(tiny_hf: Path, strategy: str) -> None:
    graph = make(tiny_hf, strategy, -1)
    tokens = [rows_of_products(traced, rows=4, longest=30) for _, traced in graph.functions]
    for (floor, _), seen in zip(graph.functions, tokens, strict=True):
        # K and V of the highest layer see all 120 tokens; Q, its outputs and the pooler do not
        assert seen.count(120) == 2 * (3 * 4 + 1)
        assert set(seen) == {120, floor}


def rows_of_products(traced: Any, *, rows: int, longest: int) -> list[int]:
    """The number of rows of each dense product, when `rows` of `longest` tokens run."""
    import tensorflow as tf

    concrete = traced.get_concrete_function()
    graph = concrete.graph
    products = [op.inputs[0] for op in graph.get_operations() if op.type == "MatMul"]
    ids, lengths, marked, *beside = (tensor.name for tensor in graph.inputs)
    held = [tensor.numpy() for tensor in concrete.captured_inputs]
    feed = dict(zip(beside, held, strict=True))
    feed[ids] = np.zeros(rows * longest, np.int32)
    feed[lengths] = np.full(rows, longest, np.int32)
    feed[marked] = np.zeros(rows * longest, np.int32)
    with tf.compat.v1.Session(graph=graph) as session:
        return [len(value) for value in session.run(products, feed)]


def test_weights_of_a_small_model_are_constants(tiny_hf: Path) -> None:
    graph = make(tiny_hf)
    for _, traced in graph.functions:
        concrete = traced.get_concrete_function()
        assert [tensor.dtype.name for tensor in concrete.inputs[:2]] == ["int32", "int32"]
        # the table of words is looked up: all functions share one
        (words,) = concrete.captured_inputs
        assert words.shape == (160, 32)
        assert words is graph.functions[0][1].get_concrete_function().captured_inputs[0]
        assert list(concrete.variables) == []
    for kinds in operations(graph):
        assert not set(kinds) & {"VarHandleOp", "ReadVariableOp", "VariableV2", "PyFunc"}


def test_traced_once_for_all_shapes(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len="none", max_batch_size=7)
    encoder.warm_up()
    for count in (1, 2, 7, 8, 30):
        for longest in (1, 2, 31, 48):
            encoder.compute(sequences(count, longest, seed=count))
    for _, traced in encoder._graph.functions:
        assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "CLS_TOKEN", "SEP_TOKEN", "NONE"])
def test_the_parts_of_a_layer_make_the_whole(tiny_hf: Path, strategy: str) -> None:
    split = make(tiny_hf, strategy, -1)
    whole = make(tiny_hf, strategy, -1, cpu_parts=1)
    for two, one in zip(operations(split), operations(whole), strict=True):
        assert two["MatMul"] == 2 * one["MatMul"]
        assert two["BatchMatMulV2"] == 2 * one["BatchMatMulV2"]
    for tokens in (12, 120):
        ids = np.arange(tokens, dtype=np.int32) % 160
        fed = flat(*ids.reshape(-1, 12).tolist())
        np.testing.assert_allclose(split(*fed), whole(*fed), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "config", [{"num_attention_heads": 1}, {"intermediate_size": 21, "num_hidden_layers": 4}]
)
def test_a_layer_that_cannot_be_divided_is_whole(tmp_path: Path, config: dict[str, Any]) -> None:
    for kinds in operations(make(write_tiny_hf(tmp_path, **config), layer=-1)):
        assert kinds["MatMul"] == 4 * 4


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "CLS_TOKEN", "SEP_TOKEN", "CLS_POOLED"])
def test_few_and_many_tokens_give_the_same(tiny_hf: Path, strategy: str) -> None:
    graph = make(tiny_hf, strategy, -1)
    (most, many), (_, few) = graph.functions
    fed = flat(*(np.arange(most) % 160).reshape(-1, 12).tolist())
    np.testing.assert_allclose(many(*fed), few(*fed), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_large_model_is_in_memory_once(tiny_hf: Path, dtype: str) -> None:
    small = make(tiny_hf, dtype=dtype)
    large = make(tiny_hf, dtype=dtype, max_constant_bytes=0)
    ((floor, traced),) = large.functions
    assert floor == 8
    # words; per part of a layer: QKV, attention output, intermediate, output
    assert len(traced.get_concrete_function().captured_inputs) == 1 + 3 * 2 * 4
    sequences = np.arange(120).reshape(-1, 4).tolist()
    rows = large(*flat(*sequences))
    np.testing.assert_allclose(rows, small(*flat(*sequences)), atol=1e-5, rtol=0)
    np.testing.assert_allclose(large(*flat(sequences[0])), rows[:1], atol=1e-6, rtol=0)


def test_float32_is_not_tf32(tiny_hf: Path) -> None:
    import tensorflow as tf

    make(tiny_hf)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_matmuls(tiny_hf: Path, dtype: str) -> None:
    graph = make(tiny_hf, dtype=dtype)
    ((floor, traced),) = graph.functions
    assert floor == 8
    for operation in traced.get_concrete_function().graph.get_operations():
        if operation.type in ("MatMul", "BatchMatMulV2", "Erfc"):
            assert operation.outputs[0].dtype.name == dtype
        if operation.type in ("Softmax", "Rsqrt", "SegmentSum"):
            assert operation.outputs[0].dtype.name in ("float32", "float64")
    rows = graph(*flat([2, 5, 6, 3]))
    assert rows.dtype == np.float32


def test_weights_that_float16_cannot_hold(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = write_tiny_hf(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors["encoder.layer.0.output.dense.bias"][0] = 1e6
    save_file(tensors, path)
    with pytest.raises(UnknownDtype, match="float16 cannot hold this model's weights: use bfl"):
        load_encoder(tmp_path, dtype="float16")
    load_encoder(tmp_path, dtype="bfloat16")


def test_padding_is_hidden_exactly(tiny_hf: Path) -> None:
    # scores of a real key that are as low as they get must still beat the padding
    graph = make(tiny_hf, "NONE", -1)
    alone = graph(*flat([2, 5, 3]))
    padded = graph(*flat([2, 5, 3], list(range(40))))
    np.testing.assert_allclose(padded[:1, :3], alone, atol=1e-6, rtol=0)
    assert not padded[0, 3:].any()
