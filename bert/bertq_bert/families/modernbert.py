"""ModernBERT (Warner et al. 2024): pre-norm, rotary positions, local attention, GeGLU."""

from bertq_bert.config import NetworkConfig, shown
from bertq_bert.errors import BadConfig
from bertq_bert.families.family import Family, Line, linear, norm
from bertq_bert.families.fields import Fields
from bertq_bert.families.rotary import read_rotary

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_AT = "layers.{}"
_HEAD = (*linear("pooler/dense", "head.dense", "HH"), *norm("pooler/LayerNorm", "head.norm"))


def _read(fields: Fields) -> NetworkConfig:
    layers = fields.size("num_hidden_layers")
    kinds = _layer_types(fields, layers)
    rope = fields.raw.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise BadConfig(f"{fields.path}: rope_parameters is {shown(rope)}, not an object")
    theta = fields.raw.get("global_rope_theta")
    theta = 160_000.0 if theta is None else theta
    local = fields.raw.get("local_rope_theta", 10_000.0)
    # With null, local attention has the base of global attention.
    thetas = {_GLOBAL: theta, _LOCAL: theta if local is None else local}
    scaling = fields.raw.get("rope_scaling")
    rotary = {kind: read_rotary(fields, rope.get(kind, scaling), thetas[kind]) for kind in thetas}
    reach = fields.size("local_attention", default=128) // 2
    act = fields.activation("classifier_activation")
    return NetworkConfig(
        family=fields.family,
        vocab_size=fields.size("vocab_size"),
        hidden_size=fields.size("hidden_size"),
        num_hidden_layers=layers,
        num_attention_heads=fields.size("num_attention_heads"),
        intermediate_size=fields.size("intermediate_size"),
        max_position_embeddings=fields.size("max_position_embeddings"),
        type_vocab_size=0,
        hidden_act=fields.activation("hidden_activation"),
        layer_norm_eps=fields.epsilon("norm_eps", default=1e-5),
        rotary=tuple(rotary[kind] for kind in kinds),
        window=tuple(reach if kind == _LOCAL else None for kind in kinds),
        pre_norm=True,
        gated=True,
        attention_bias=fields.flag("attention_bias", False),
        feed_forward_bias=fields.flag("mlp_bias", False),
        norm_bias=fields.flag("norm_bias", False),
        head_bias=fields.flag("classifier_bias", False),
        head_act=act,
        head_pooling=_head_pooling(fields),
        head_norm=True,
        masked_lm_act=act,
        tied_embeddings=fields.flag("tie_word_embeddings", True),
    )


def _layer_types(fields: Fields, layers: int) -> list[str]:
    kinds = fields.raw.get("layer_types")
    if kinds is None:
        every = fields.size("global_attn_every_n_layers", default=3)
        return [_LOCAL if index % every else _GLOBAL for index in range(layers)]
    if (
        not isinstance(kinds, list)
        or len(kinds) != layers
        or any(kind not in (_GLOBAL, _LOCAL) for kind in kinds)
    ):
        raise BadConfig(
            f"{fields.path}: layer_types must be {_GLOBAL} or {_LOCAL} for each of {layers} layers"
        )
    return kinds


def _head_pooling(fields: Fields) -> str:
    fields.require("classifier_pooling", "cls", "mean")
    return str(fields.raw.get("classifier_pooling", "cls"))


MODERNBERT = Family(
    name="ModernBERT",
    model_types=("modernbert",),
    read=_read,
    prefixes=("model.",),
    embeddings=(
        Line("embeddings/word_embeddings", "embeddings.tok_embeddings.weight", "VE"),
        *norm("embeddings/LayerNorm", "embeddings.norm", "E"),
    ),
    layer=(
        # Not in the first layer, because the embeddings are normalized already.
        *norm("attention/output/LayerNorm", f"{_AT}.attn_norm"),
        *linear("attention/self/query", f"{_AT}.attn.Wqkv", "HH", (0, 3)),
        *linear("attention/self/key", f"{_AT}.attn.Wqkv", "HH", (1, 3)),
        *linear("attention/self/value", f"{_AT}.attn.Wqkv", "HH", (2, 3)),
        *linear("attention/output/dense", f"{_AT}.attn.Wo", "HH"),
        *norm("output/LayerNorm", f"{_AT}.mlp_norm"),
        *linear("intermediate/dense", f"{_AT}.mlp.Wi", "HI", (0, 2)),
        *linear("intermediate/gate", f"{_AT}.mlp.Wi", "HI", (1, 2)),
        *linear("output/dense", f"{_AT}.mlp.Wo", "IH"),
    ),
    final=norm("encoder/LayerNorm", "final_norm"),
    classifier=(
        *_HEAD,
        Line("output_weights", "classifier.weight", "LH"),
        Line("output_bias", "classifier.bias", "L"),
    ),
    masked_lm=(
        *linear("predictions/dense", "head.dense", "HE"),
        *norm("predictions/LayerNorm", "head.norm", "E"),
        Line("predictions/decoder", "decoder.weight", "VE"),
        Line("predictions/bias", "decoder.bias", "V"),
    ),
)
