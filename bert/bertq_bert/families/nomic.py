"""NomicBERT (Nussbaum et al. 2024): BERT with rotary positions and a gated feed-forward layer.

There are two kinds of config: that of transformers, and that of the code on the hub (``n_embd``,
``n_head``, ...).
"""

from dataclasses import replace
from typing import Any

from bertq_bert.config import NetworkConfig, Rotary
from bertq_bert.errors import BadConfig
from bertq_bert.families.bert import LABELS, POOLER
from bertq_bert.families.family import Family, Line, norm
from bertq_bert.families.fields import Fields
from bertq_bert.families.rotary import read_rotary

_AT = "encoder.layers.{}"

#: Names of gated feed-forward layers in the hub's code, and their activations.
_GATED = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}

#: Defaults of the hub's code that differ from those of transformers.
_HUB_DEFAULTS = {
    "qkv_proj_bias": True,
    "mlp_fc1_bias": True,
    "mlp_fc2_bias": True,
    "rotary_emb_fraction": 0.0,
    "activation_function": "gelu_new",
}

#: Settings of the hub's code, and the values that bertq supports.
_REQUIRED: dict[str, tuple[object, ...]] = {
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "prenorm": (False,),
    "parallel_block": (False,),
    "causal": (False,),
    "use_rms_norm": (False,),
    "norm_mlp": (False,),
    "rotary_emb_fraction": (1,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (),
    "rotary_head_dim": (False,),
    # Not "gelu", a feed-forward layer without a gate, which no known model has.
    "activation_function": tuple(_GATED),
    "num_experts": (0,),
    "moe_every_n_layers": (0,),
}


def _read(fields: Fields) -> NetworkConfig:
    if "n_embd" in fields.raw:
        fields = Fields(_HUB_DEFAULTS | dict(fields.raw), fields.path, fields.family)
    for key, values in _REQUIRED.items():
        fields.require(key, *values)
    heads = fields.size("num_attention_heads", "n_head")
    hidden = fields.size("hidden_size", "n_embd")
    fields.require("head_dim", hidden // heads)
    fields.require("num_heads_kv", heads)
    gated = _GATED.get(str(fields.raw.get("activation_function")))
    rotary, longest = _positions(fields)
    layers = fields.size("num_hidden_layers", "n_layer")
    return NetworkConfig(
        family=fields.family,
        vocab_size=fields.size("vocab_size"),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=fields.size("intermediate_size", "n_inner", default=4 * hidden),
        max_position_embeddings=longest,
        type_vocab_size=fields.size("type_vocab_size", default=2, least=0),
        hidden_act=gated or fields.activation("hidden_act", default="silu"),
        layer_norm_eps=fields.epsilon("layer_norm_eps", "layer_norm_epsilon"),
        rotary=(rotary,) * layers,
        gated=True,
    )


def _positions(fields: Fields) -> tuple[Rotary, int]:
    """Return the rotary positions, and the maximum sequence length that they allow.

    Raises:
        BadConfig: the base is missing.
    """
    raw: Any = fields.raw
    # transformers writes the trained length to the first, and the hub's code reads the second.
    sizes = [fields.size(key, default=0) for key in ("max_position_embeddings", "n_positions")]
    longest = max(sizes) or 2048
    theta = raw.get("rotary_emb_base")
    if theta is None and "n_embd" in raw and not raw.get("rope_parameters"):
        raise BadConfig(f"{fields.path}: rotary_emb_base is missing")
    rotary = read_rotary(fields, raw.get("rope_parameters"), 1000.0 if theta is None else theta)
    if raw.get("rotary_scaling_factor"):
        # Not for longer sequences, because their base would depend on the length of the batch.
        longest = min(longest, fields.size("max_trained_positions", default=2048))
        rotary = replace(rotary, longest=longest)
    return rotary, longest


NOMIC = Family(
    name="NomicBERT",
    model_types=("nomic_bert",),
    read=_read,
    prefixes=("bert.", "nomic_bert."),
    embeddings=(
        Line("embeddings/word_embeddings", "embeddings.word_embeddings.weight", "VE"),
        Line("embeddings/token_type_embeddings", "embeddings.token_type_embeddings.weight", "TE"),
        *norm("embeddings/LayerNorm", "emb_ln", "E"),
    ),
    layer=(
        Line("attention/self/query/kernel", f"{_AT}.attn.Wqkv.weight", "HH", (0, 3)),
        Line("attention/self/key/kernel", f"{_AT}.attn.Wqkv.weight", "HH", (1, 3)),
        Line("attention/self/value/kernel", f"{_AT}.attn.Wqkv.weight", "HH", (2, 3)),
        Line("attention/output/dense/kernel", f"{_AT}.attn.out_proj.weight", "HH"),
        *norm("attention/output/LayerNorm", f"{_AT}.norm1"),
        Line("intermediate/dense/kernel", f"{_AT}.mlp.fc12.weight", "HI"),
        Line("intermediate/gate/kernel", f"{_AT}.mlp.fc11.weight", "HI"),
        Line("output/dense/kernel", f"{_AT}.mlp.fc2.weight", "IH"),
        *norm("output/LayerNorm", f"{_AT}.norm2"),
    ),
    classifier=(*POOLER, *LABELS),
)
