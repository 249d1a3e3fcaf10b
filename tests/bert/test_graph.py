from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bertq_bert import load_encoder
from bertq_bert.checkpoint import read_weights
from bertq_bert.config import read_config
from bertq_bert.errors import UnknownDtype
from bertq_bert.layout import find_model
from bertq_bert.pooling import plan_pooling
from tests.bert.checkpoints import write_tiny_hf
from tests.bert.test_parity import sequences


def make(model: Path, strategy: str = "REDUCE_MEAN", layer: int = -2, dtype: str = "float32"):  # type: ignore[no-untyped-def]
    from bertq_bert.graph import Graph

    files = find_model(model)
    config = read_config(files.config)
    pooling = plan_pooling(strategy, [layer], config.num_hidden_layers)
    weights = read_weights(files, config, pooler=pooling.needs_pooler)
    graph = Graph(config, weights, pooling, dtype)
    assert weights == {}, "the graph must hold the only copy"
    return graph


@pytest.mark.parametrize(("layer", "computed"), [(-1, 4), (-2, 3), (-3, 2), (-4, 1)])
def test_layers_above_the_highest_are_not_there(tiny_hf: Path, layer: int, computed: int) -> None:
    operations = make(tiny_hf, layer=layer).concrete.graph.get_operations()
    kinds = Counter(operation.type for operation in operations)
    # per layer: QKV, attention output, intermediate, output; and Q K^T, softmax V
    assert kinds["MatMul"] == 4 * computed
    assert kinds["BatchMatMulV2"] == 2 * computed


def test_the_pooler_is_there_only_for_its_strategy(tiny_hf: Path) -> None:
    operations = make(tiny_hf, "CLS_POOLED").concrete.graph.get_operations()
    assert Counter(operation.type for operation in operations)["MatMul"] == 4 * 4 + 1


def test_weights_are_constants(tiny_hf: Path) -> None:
    concrete = make(tiny_hf).concrete
    assert [tensor.dtype.name for tensor in concrete.inputs] == ["int32", "int32"]
    assert concrete.captured_inputs == []
    assert list(concrete.variables) == []
    kinds = {operation.type for operation in concrete.graph.get_operations()}
    assert not kinds & {"VarHandleOp", "ReadVariableOp", "VariableV2", "PyFunc", "EagerPyFunc"}


def test_traced_once_for_all_shapes(tiny_hf: Path) -> None:
    encoder = load_encoder(tiny_hf, max_seq_len=None, max_batch_size=7)
    encoder.warm_up()
    for count in (1, 2, 7, 8, 30):
        for longest in (1, 2, 31, 48):
            encoder.compute(sequences(count, longest, seed=count))
    assert encoder._graph.function.experimental_get_tracing_count() == 1


def test_float32_is_not_tf32(tiny_hf: Path) -> None:
    import tensorflow as tf

    make(tiny_hf)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_matmuls(tiny_hf: Path, dtype: str) -> None:
    graph = make(tiny_hf, dtype=dtype)
    for operation in graph.concrete.graph.get_operations():
        if operation.type in ("MatMul", "BatchMatMulV2"):
            assert operation.outputs[0].dtype.name == dtype
        if operation.type in ("Softmax", "Rsqrt", "SegmentSum"):
            assert operation.outputs[0].dtype.name in ("float32", "float64")
    rows = graph(np.array([2, 5, 6, 3], np.int32), np.array([4], np.int32))
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
    alone = graph(np.array([2, 5, 3], np.int32), np.array([3], np.int32))
    padded = graph(np.array([2, 5, 3, *range(40)], np.int32), np.array([3, 40], np.int32))
    np.testing.assert_allclose(padded[:1, :3], alone, atol=1e-6, rtol=0)
    assert not padded[0, 3:].any()
