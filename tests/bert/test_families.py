"""Configs of families in the forms of the hub, and settings that are refused.

The vectors of each family are compared with sentence-transformers' in ``test_directories.py``; here
another config describes the same weights, and must give the same model.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertq_bert import Encoder, ModelError, read_source
from bertq_bert.config import NetworkConfig, Rotary
from bertq_bert.errors import BadConfig, UnsupportedModel, WrongShape
from bertq_bert.families import read_config
from bertq_bert.network.positions import rotation

MODELS = Path(__file__).parents[1] / "data" / "models"

#: Settings of nomic-embed-text-v1.5 other than its sizes.
NOMIC_HUB: dict[str, Any] = {
    "architectures": ["NomicBertModel"],
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "model_type": "nomic_bert",
    "activation_function": "swiglu",
    "attn_pdrop": 0.0,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 24,
    "n_head": 3,
    "n_inner": 36,
    "n_layer": 3,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "type_vocab_size": 2,
    "use_cache": True,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "use_xentropy": True,
    "vocab_size": 406,
}

#: Settings of gte-multilingual-base.
GTE_HUB: dict[str, Any] = {
    "architectures": ["NewModel"],
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    "model_type": "new",
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 24,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "intermediate_size": 36,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 96,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "pack_qkv": True,
    "pad_token_id": 0,
    "position_embedding_type": "rope",
    "rope_scaling": None,
    "rope_theta": 160000.0,
    "torch_dtype": "float16",
    "type_vocab_size": 1,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
    "vocab_size": 400,
}

Read = Callable[..., NetworkConfig]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a config: that of a directory of ``tests/data/models``, or one given, changed."""

    def read(config: str | dict[str, Any], **changes: Any) -> NetworkConfig:
        if isinstance(config, str):
            config = json.loads((MODELS / config / "config.json").read_text())
        assert isinstance(config, dict)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config | changes))
        return read_config(path)[1]

    return read


def with_config(name: str, config: dict[str, Any], tmp_path: Path) -> Path:
    path = Path(shutil.copytree(MODELS / name, tmp_path / name))
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("name", "config"), [("nomic-mean-norm", NOMIC_HUB), ("gte-cls-norm", GTE_HUB)]
)
def test_the_hubs_config_is_the_same_model(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    sizes = json.loads((MODELS / name / "config.json").read_text())
    assert sizes["vocab_size"] == config["vocab_size"]
    given = read_source(with_config(name, config, tmp_path), max_seq_len=96)
    own = read_source(MODELS / name, max_seq_len=96)
    assert given.config == own.config
    assert given.model.fingerprint == own.model.fingerprint


def test_nomics_lengths(read: Read, tmp_path: Path) -> None:
    assert read(NOMIC_HUB).max_position_embeddings == 8192
    # transformers' conversion names the trained length, and the hub's code reads the other one
    mixed = {"max_position_embeddings": 2048, "rope_parameters": {"rope_theta": 1000.0}}
    assert read(NOMIC_HUB, **mixed).max_position_embeddings == 8192
    # beyond the trained length its base depends on the longest text of a batch
    scaled = read(NOMIC_HUB, rotary_scaling_factor=2)
    assert scaled.max_position_embeddings == 2048
    path = with_config(
        "nomic-mean-norm",
        NOMIC_HUB | {"rotary_scaling_factor": 2, "max_trained_positions": 50},
        tmp_path,
    )
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 8192}')
    assert read_source(path).model.max_seq_len == 50
    (path / "config.json").write_text(json.dumps(NOMIC_HUB))
    assert read_source(path).model.max_seq_len == 8192


@pytest.mark.parametrize(
    ("function", "activation"), [("swiglu", "silu"), ("geglu", "gelu"), ("glu", "sigmoid")]
)
def test_nomics_gates(read: Read, function: str, activation: str) -> None:
    assert read(NOMIC_HUB, activation_function=function).hidden_act == activation


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qkv_proj_bias", True),
        ("mlp_fc1_bias", True),
        ("mlp_fc2_bias", True),
        ("prenorm", True),
        ("parallel_block", True),
        ("causal", True),
        ("use_rms_norm", True),
        ("norm_mlp", True),
        ("rotary_emb_fraction", 0.5),
        ("rotary_emb_interleaved", True),
        ("rotary_emb_scale_base", 512),
        ("rotary_head_dim", True),
        ("activation_function", "gelu"),
        ("activation_function", ["swiglu"]),
        ("num_experts", 8),
        ("moe_every_n_layers", 2),
        ("num_heads_kv", 1),
        ("head_dim", 4),
    ],
)
def test_settings_that_nomic_may_not_have(read: Read, key: str, value: object) -> None:
    with pytest.raises(UnsupportedModel, match=rf"config.json: {key} is .*NomicBERT"):
        read(NOMIC_HUB, **{key: value})


@pytest.mark.parametrize(
    "key", ["qkv_proj_bias", "mlp_fc1_bias", "rotary_emb_fraction", "activation_function"]
)
def test_settings_without_a_default(read: Read, key: str) -> None:
    config = {name: value for name, value in NOMIC_HUB.items() if name != key}
    with pytest.raises(UnsupportedModel, match=f"{key} is "):
        read(config)


def test_no_base_of_rotary_positions(read: Read) -> None:
    config = {name: value for name, value in NOMIC_HUB.items() if name != "rotary_emb_base"}
    with pytest.raises(BadConfig, match="rotary_emb_base is missing"):
        read(config)
    assert read("nomic-mean-norm", rope_parameters=None).rotary[0].theta == 1000.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "absolute"),
        ("layer_norm_type", "rms_norm"),
        ("pack_qkv", False),
        ("logn_attention_scale", True),
    ],
)
def test_settings_that_gte_may_not_have(read: Read, key: str, value: object) -> None:
    with pytest.raises(UnsupportedModel, match=rf"config.json: {key} is {value!r}: .*GTE"):
        read(GTE_HUB, **{key: value})


def test_gtes_positions(read: Read) -> None:
    assert read(GTE_HUB, rope_theta=500000).rotary == (Rotary(500000.0),) * 3
    scaled = read(GTE_HUB, rope_scaling={"type": "ntk", "factor": 8.0}, rope_theta=20000)
    assert scaled.rotary == (Rotary(20000.0, ntk_factor=8.0),) * 3
    # the code of the hub and transformers have different defaults for the base
    bare = {name: value for name, value in GTE_HUB.items() if name != "rope_theta"}
    assert read(bare).rotary[0].theta == 10000.0
    assert read(bare, model_type="gte").rotary[0].theta == 160000.0


@pytest.mark.parametrize(
    ("scaling", "error"),
    [
        ({"type": "ntk", "factor": 8.0, "mixed_b": 0.6}, UnsupportedModel),
        ({"type": "dynamic", "factor": 2.0}, UnsupportedModel),
        ({"rope_type": "yarn", "factor": 2.0}, UnsupportedModel),
        ({"rope_type": ["ntk"], "factor": 2.0}, UnsupportedModel),
        ({"type": "ntk"}, BadConfig),
        ({"type": "ntk", "factor": "8"}, BadConfig),
        ({"type": "linear", "factor": 0}, BadConfig),
        ({"type": "linear", "factor": math.inf}, BadConfig),
        ({"type": "default", "rope_theta": -1}, BadConfig),
    ],
)
def test_other_scalings_of_positions(read: Read, scaling: Any, error: type[ModelError]) -> None:
    with pytest.raises(error, match=r"config.json: .*(rope|factor)"):
        read(GTE_HUB, rope_scaling=scaling)


@pytest.mark.parametrize("factor", [1.0, 2.0, 8.0])
@pytest.mark.parametrize("size", [8, 64])
def test_angles_with_ntk_scaling(factor: float, size: int) -> None:
    """https://kexue.fm/archives/9706: theta_i = (base k)^(-2i/d) k^(-2/d), one at a time."""
    turns = rotation(Rotary(20000.0, ntk_factor=factor), size, 300)
    assert turns.shape == (300, size // 2)
    for position in (0, 1, 17, 299):
        for pair in range(size // 2):
            frequency = 1.0 / math.pow(20000.0 * factor, 2 * pair / size)
            angle = position * frequency / math.pow(factor, 2 / size)
            expected = complex(math.cos(angle), math.sin(angle))
            assert abs(complex(turns[position, pair]) - expected) < 1e-6


def test_angles_with_linear_scaling() -> None:
    plain = rotation(Rotary(10000.0), 16, 100)
    halved = rotation(Rotary(10000.0, position_divisor=2.0), 16, 199)
    np.testing.assert_allclose(halved[::2], plain, atol=1e-6)


def test_scaled_positions_give_other_rows(tmp_path: Path) -> None:
    scaled = GTE_HUB | {"rope_scaling": {"type": "ntk", "factor": 8.0}}
    text = ["the quick brown fox jumps over the lazy dog"]
    plain = Encoder.build(read_source(MODELS / "gte-cls-norm")).encode(text)
    source = read_source(with_config("gte-cls-norm", scaled, tmp_path))
    rows = Encoder.build(source).encode(text)
    assert 1e-4 < float(np.abs(rows - plain).max()) < 1


# --- ModernBERT


def test_modernbert_old_and_new(read: Read) -> None:
    """transformers 4 names bases and every how many layers, version 5 each layer."""
    old = read("modernbert-layers-old")
    kinds = ["full_attention", "sliding_attention", "sliding_attention"] * 3
    new = read(
        "modernbert-layers-old",
        global_rope_theta=None,
        local_rope_theta=None,
        global_attn_every_n_layers=None,
        layer_types=kinds[:7],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    )
    assert new == old
    assert [rotary.theta for rotary in old.rotary] == [1.6e5, 1e4, 1e4, 1.6e5, 1e4, 1e4, 1.6e5]
    assert old.window == (None, 4, 4, None, 4, 4, None)
    # as ModernBERT-base has it
    assert read("modernbert-layers-old", position_embedding_type="absolute") == old
    assert (
        read("modernbert-layers-old", reference_compile=True, repad_logits_with_grad=False) == old
    )


def test_modernbert_without_a_base_for_local_attention(read: Read) -> None:
    config = read("modernbert-layers-old", local_rope_theta=None)
    assert {rotary.theta for rotary in config.rotary} == {160000.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_types", ["full_attention"]),
        ("layer_types", ["full_attention", "chunked_attention", "x", "x", "x", "x", "x"]),
        ("layer_types", [[], {}, 1, 2, 3, 4, 5]),
        ("rope_parameters", [1]),
        ("hidden_activation", "relu6"),
        ("norm_bias", 1),
    ],
)
def test_impossible_modernberts(read: Read, key: str, value: object) -> None:
    with pytest.raises(BadConfig, match=rf"config.json: {key} "):
        read("modernbert-layers-old", **{key: value})


def test_modernberts_pooling_for_labels(read: Read) -> None:
    with pytest.raises(UnsupportedModel, match=r"classifier_pooling is 'max': .*'cls' or 'mean'"):
        read("modernbert-layers-old", classifier_pooling="max")


# --- BERT and its relatives


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bert-mean", "position_embedding_type", "relative_key_query"),
        ("bert-mean", "position_embedding_type", "alibi"),
        ("bert-mean", "is_decoder", True),
        ("bert-mean", "alibi_starting_size", 512),
        ("bert-mean", "pruned_heads", {"0": [1]}),
        ("xlmr-mean-old", "position_embedding_type", "rotary"),
        ("electra-mean", "position_embedding_type", "relative_key"),
        ("mpnet-mean-norm-old", "is_decoder", True),
        ("albert-mean-old", "inner_group_num", 2),
    ],
)
def test_other_networks_are_refused(read: Read, name: str, key: str, value: object) -> None:
    with pytest.raises(UnsupportedModel, match=rf"config.json: {key} is "):
        read(name, **{key: value})


@pytest.mark.parametrize(
    ("name", "given", "activation"),
    [
        ("bert-mean", "gelu", "gelu"),
        ("bert-mean", "gelu_python", "gelu"),
        ("bert-mean", "gelu_fast", "gelu_new"),
        ("bert-mean", "swish", "silu"),
        ("bert-mean", "linear", "identity"),
        ("bert-mean", None, "gelu"),
        ("albert-mean-old", None, "gelu_new"),
    ],
)
def test_activations(read: Read, name: str, given: str | None, activation: str) -> None:
    assert read(name, hidden_act=given).hidden_act == activation


@pytest.mark.parametrize("value", ["swiglu", "mish", "", 3, ["gelu"]])
def test_unknown_activations(read: Read, value: object) -> None:
    with pytest.raises(BadConfig, match=r"config.json: hidden_act .*gelu_new"):
        read("bert-mean", hidden_act=value)


def test_sizes_of_another_model(tmp_path: Path) -> None:
    config = json.loads((MODELS / "roberta-mean" / "config.json").read_text())
    path = with_config("roberta-mean", config | {"intermediate_size": 40}, tmp_path)
    with pytest.raises(WrongShape, match=r"model.safetensors: variable .*intermediate"):
        read_source(path)
