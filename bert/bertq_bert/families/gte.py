"""GTE's own network, ``new`` or ``gte`` (Zhang et al. 2024): rotary positions, a gated MLP."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.bert import LABELS, POOLER
from bertq_bert.families.family import Family, Line, linear, norm
from bertq_bert.families.fields import Fields
from bertq_bert.families.rotary import read_rotary

_AT = "encoder.layer.{}"


def _read(fields: Fields) -> NetworkConfig:
    fields.require("position_embedding_type", "rope")
    fields.require("layer_norm_type", "layer_norm")
    fields.require("pack_qkv", True)
    fields.require("logn_attention_scale", False)
    layers = fields.size("num_hidden_layers")
    scaling = fields.raw.get("rope_parameters") or fields.raw.get("rope_scaling")
    # The default of the hub's code differs from that of transformers.
    default = 10_000.0 if fields.raw.get("model_type") == "new" else 160_000.0
    theta = fields.raw.get("rope_theta")
    rotary = read_rotary(fields, scaling, default if theta is None else theta)
    return NetworkConfig(
        family=fields.family,
        vocab_size=fields.size("vocab_size"),
        hidden_size=fields.size("hidden_size"),
        num_hidden_layers=layers,
        num_attention_heads=fields.size("num_attention_heads"),
        intermediate_size=fields.size("intermediate_size"),
        max_position_embeddings=fields.size("max_position_embeddings"),
        type_vocab_size=fields.size("type_vocab_size", default=1, least=0),
        hidden_act=fields.activation("hidden_act"),
        layer_norm_eps=fields.epsilon("layer_norm_eps"),
        rotary=(rotary,) * layers,
        gated=True,
        masked_lm_act="gelu",
        tied_embeddings=fields.flag("tie_word_embeddings", True),
    )


GTE = Family(
    name="GTE",
    model_types=("new", "gte"),
    read=_read,
    prefixes=("new.", "gte."),
    embeddings=(
        Line("embeddings/word_embeddings", "embeddings.word_embeddings.weight", "VE"),
        Line("embeddings/token_type_embeddings", "embeddings.token_type_embeddings.weight", "TE"),
        *norm("embeddings/LayerNorm", "embeddings.LayerNorm", "E"),
    ),
    layer=(
        *linear("attention/self/query", f"{_AT}.attention.qkv_proj", "HH", (0, 3)),
        *linear("attention/self/key", f"{_AT}.attention.qkv_proj", "HH", (1, 3)),
        *linear("attention/self/value", f"{_AT}.attention.qkv_proj", "HH", (2, 3)),
        *linear("attention/output/dense", f"{_AT}.attention.o_proj", "HH"),
        *norm("attention/output/LayerNorm", f"{_AT}.attn_ln"),
        Line("intermediate/gate/kernel", f"{_AT}.mlp.up_gate_proj.weight", "HI", (0, 2)),
        Line("intermediate/dense/kernel", f"{_AT}.mlp.up_gate_proj.weight", "HI", (1, 2)),
        *linear("output/dense", f"{_AT}.mlp.down_proj", "IH"),
        *norm("output/LayerNorm", f"{_AT}.mlp_ln"),
    ),
    pooler=POOLER,
    classifier=(*POOLER, *LABELS),
    masked_lm=(
        *linear("predictions/dense", "lm_head.dense", "HE"),
        *norm("predictions/LayerNorm", "lm_head.norm", "E"),
        Line("predictions/decoder", "lm_head.decoder.weight", "VE"),
        Line("predictions/bias", "lm_head.decoder.bias", "V"),
    ),
)
