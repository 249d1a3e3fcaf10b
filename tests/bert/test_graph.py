from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import load_encoder
from bertq_bert.checkpoint import read_weights
from bertq_bert.directory.layout import find_model
from bertq_bert.errors import UnknownDtype
from bertq_bert.families import read_config
from bertq_bert.network.padding import TokenPlaces, padded_length
from bertq_bert.pooling import plan_pooling
from bertq_bert.variables import Parts
from tests.bert.checkpoints import write_tiny_hf


def make(  # type: ignore[no-untyped-def]
    model: Path,
    strategy: str = "REDUCE_MEAN",
    layer: int = -2,
    dtype: str = "float32",
    **options: Any,
):
    from bertq_bert.network.graph import Graph

    files = find_model(model)
    family, config = read_config(files.config)
    pooling = plan_pooling(strategy, [layer], config.num_hidden_layers)
    weights = read_weights(files, family, config, Parts(pooling.needs_pooler))
    graph = Graph(config, weights, pooling, dtype, **options)
    assert weights == {}, "the graph must hold the only copy"
    return graph


#: Products with weights, of the fused operations and of the public ones.
PRODUCTS = ("_MklNativeFusedMatMul", "MatMul")

#: Products of attention.
SCORES = ("_MklFusedBatchMatMulV2", "BatchMatMulV2")


def count(graph: Any, kinds: tuple[str, ...]) -> int:
    return count_of(graph.functions[0], kinds)


def count_of(traced: Any, kinds: tuple[str, ...]) -> int:
    return sum(operation.type in kinds for operation in traced.graph.get_operations())


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize(("layer", "computed"), [(-1, 4), (-2, 3), (-3, 2), (-4, 1)])
def test_layers_above_the_highest_are_not_loaded(
    tiny_hf: Path, layer: int, computed: int, is_fused: bool
) -> None:
    graph = make(tiny_hf, layer=layer, is_fused=is_fused)
    # per part of a layer: QKV, attention output, intermediate, output; Q K^T, softmax V
    assert count(graph, PRODUCTS) == 2 * 4 * computed
    assert count(graph, SCORES) == 2 * 2 * computed


def test_the_pooler_is_there_only_for_its_strategy(tiny_hf: Path) -> None:
    # Q of the highest layer is a separate product
    assert count(make(tiny_hf, "CLS_POOLED"), PRODUCTS) == 2 * (4 * 4 + 1) + 1


@pytest.mark.parametrize("strategy", ["CLS_TOKEN", "SEP_TOKEN", "CLS_POOLED"])
def test_the_highest_layer_computes_one_token_of_each_row(tiny_hf: Path, strategy: str) -> None:
    seen = rows_of_products(make(tiny_hf, strategy, -1).functions[0], rows=4, longest=30)
    # K and V of the highest layer see all 120 tokens; Q, its outputs and the pooler see 8 rows
    assert seen.count(120) == 2 * (3 * 4 + 1)
    assert set(seen) == {120, 8}


def rows_of_products(concrete: Any, *, rows: int, longest: int) -> list[int]:
    """The number of rows of each dense product, when `rows` of `longest` tokens run."""
    import tensorflow as tf

    graph = concrete.graph
    products = [op.inputs[0] for op in graph.get_operations() if op.type in PRODUCTS]
    tokens = np.zeros(rows * longest, np.int32)
    lengths = np.full(rows, longest, np.int32)
    places = TokenPlaces.of(lengths, rows, len(tokens), padded_length(longest))
    weights = [tensor.numpy() for tensor in concrete.captured_inputs]
    names = [tensor.name for tensor in graph.inputs]
    feed = dict(zip(names, [tokens, tokens, *places, *weights], strict=True))
    with tf.compat.v1.Session(graph=graph) as session:
        return [len(value) for value in session.run(products, feed)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_in_memory_once(tiny_hf: Path, dtype: str) -> None:
    concrete = make(tiny_hf, dtype=dtype).functions[0]
    assert [tensor.dtype.name for tensor in concrete.inputs[:6]] == ["int32"] * 6
    # words, positions; per part of a layer: QKV, attention output, intermediate, output
    assert len(concrete.captured_inputs) == 2 + 3 * 2 * 4
    assert concrete.captured_inputs[0].shape == (160, 32)
    assert list(concrete.variables) == []
    kinds = {operation.type for operation in concrete.graph.get_operations()}
    assert not kinds & {"VarHandleOp", "ReadVariableOp", "VariableV2", "PyFunc"}


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "CLS_TOKEN", "SEP_TOKEN", "NONE"])
def test_the_parts_of_a_layer_make_the_whole(tiny_hf: Path, strategy: str) -> None:
    split = make(tiny_hf, strategy, -1)
    whole = make(tiny_hf, strategy, -1, cpu_parts=1)
    for kinds in (PRODUCTS, SCORES):
        assert count(split, kinds) == 2 * count(whole, kinds)
    for tokens in (12, 120):
        ids = np.arange(tokens).reshape(-1, 12).tolist()
        np.testing.assert_allclose(split(ids), whole(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "config", [{"num_attention_heads": 1}, {"intermediate_size": 21, "num_hidden_layers": 4}]
)
def test_a_layer_that_cannot_be_divided_is_whole(tmp_path: Path, config: dict[str, Any]) -> None:
    assert count(make(write_tiny_hf(tmp_path, **config), layer=-1), PRODUCTS) == 4 * 4


@pytest.mark.parametrize(
    ("dtype", "norms", "packed", "atol"),
    [("float32", [0, 0], [True, False], 5e-6), ("bfloat16", [0, 7], [True, True], 0.1)],
)
def test_few_tokens_have_a_function_of_their_own(
    tiny_hf: Path, dtype: str, norms: list[int], packed: list[bool], atol: float
) -> None:
    graph = make(tiny_hf, dtype=dtype)
    both = graph.functions[0], graph.functions[40]
    assert [count_of(traced, ("_MklLayerNorm",)) for traced in both] == norms
    for traced, is_packed in zip(both, packed, strict=True):
        products = [
            operation.get_attr("is_filter_const")
            for operation in traced.graph.get_operations()
            if operation.type == "_MklNativeFusedMatMul"
        ]
        assert products == [is_packed] * (3 * 2 * 4)
    held = [{tensor.ref() for tensor in traced.captured_inputs} for traced in both]
    # all but the table of positions, which is small
    assert len(held[0] - held[1]) <= 1
    sentence = list(range(2, 21))
    two, three = graph([sentence] * 2), graph([sentence] * 3)  # 38 tokens, and 57
    np.testing.assert_allclose(two, three[:2], atol=atol, rtol=0)


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "CLS_TOKEN", "NONE"])
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 5e-6), ("bfloat16", 0.1)])
def test_fused_and_public_operations_give_the_same(
    tiny_hf: Path, strategy: str, dtype: str, atol: float
) -> None:
    fused = make(tiny_hf, strategy, -1, dtype, is_fused=True)
    public = make(tiny_hf, strategy, -1, dtype, is_fused=False)
    for lengths in ([1], [3], [9], [7, 1, 30], [25] * 20):
        ids = [list(range(2, 2 + length)) for length in lengths]
        np.testing.assert_allclose(fused(ids), public(ids), atol=atol, rtol=0)


def test_float32_is_not_tf32(tiny_hf: Path) -> None:
    import tensorflow as tf

    make(tiny_hf)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_matmuls(tiny_hf: Path, dtype: str) -> None:
    graph = make(tiny_hf, dtype=dtype, is_fused=False)
    for operation in graph.functions[0].graph.get_operations():
        if operation.type in ("MatMul", "BatchMatMulV2", "Erfc"):
            assert operation.outputs[0].dtype.name == dtype
        if operation.type in ("Softmax", "Rsqrt", "SegmentSum"):
            assert operation.outputs[0].dtype.name in ("float32", "float64")
    rows = graph([[2, 5, 6, 3]])
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
    alone = graph([[2, 5, 3]])
    padded = graph([[2, 5, 3], list(range(40))])
    np.testing.assert_allclose(padded[:1, :3], alone, atol=1e-6, rtol=0)
    assert not padded[0, 3:].any()


def test_only_tf32_allows_shorter_products(tiny_hf: Path) -> None:
    import tensorflow as tf

    ids = [[5, 6, 7]]
    exact = make(tiny_hf)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    short = make(tiny_hf, dtype="tf32")
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    np.testing.assert_array_equal(short(ids), exact(ids))  # a CPU has none
    make(tiny_hf, dtype="bfloat16")
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_private_calls_of_tensorflow_give_the_same(
    tiny_hf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow.python.eager import execute

    from bertq_bert.network import calls

    names: list[str] = []

    def record(name: str, *arguments: Any) -> Any:
        names.append(name)
        return run(name, *arguments)

    run = execute.execute
    monkeypatch.setattr(execute, "execute", record)
    graph = make(tiny_hf)
    monkeypatch.undo()
    batches = [[[2, 5, 3]], [[2, 5, 6, 3], [2, 3]], [[7] * 30] * 20]
    direct = [graph(ids) for ids in batches]
    few, many = (traced.name.decode() for traced in graph.functions.values())
    assert names == [few, few, many]
    for name in ("execute", "EagerTensor"):
        monkeypatch.setattr(calls, name, None)
    public = make(tiny_hf)
    for ids, rows in zip(batches, direct, strict=True):
        np.testing.assert_array_equal(public(ids), rows)
    assert len(names) == 3


def test_a_tensor_of_an_array() -> None:
    from bertq_bert.network.calls import make_tensor

    for size in (1, 7, 24, 512):
        array = np.arange(size, dtype=np.int32)
        tensor = make_tensor(array)
        assert tensor.dtype.name == "int32"
        np.testing.assert_array_equal(tensor.numpy(), array)
