"""ALBERT (Lan et al. 2019): narrow embeddings, and layers that share their weights."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.bert import EMBEDDINGS, LABELS, read_block
from bertq_bert.families.family import Family, Line, linear, norm
from bertq_bert.families.fields import Fields

_AT = "encoder.albert_layer_groups.{}.albert_layers.0"
_POOLER = linear("pooler/dense", "pooler", "HH")


def _read(fields: Fields) -> NetworkConfig:
    fields.require("inner_group_num", 1)
    values = read_block(fields, activation="gelu_new")
    layers, groups = fields.size("num_hidden_layers"), fields.size("num_hidden_groups", default=1)
    values |= {
        "embedding_size": fields.size("embedding_size", default=128),
        "shared_layers": tuple(int(index / (layers / groups)) for index in range(layers)),
    }
    return NetworkConfig(**values)  # type: ignore[arg-type]


ALBERT = Family(
    name="ALBERT",
    model_types=("albert",),
    read=_read,
    prefixes=("albert.",),
    embeddings=(
        *EMBEDDINGS,
        *linear("embeddings/project", "encoder.embedding_hidden_mapping_in", "EH"),
    ),
    layer=(
        *linear("attention/self/query", f"{_AT}.attention.query", "HH"),
        *linear("attention/self/key", f"{_AT}.attention.key", "HH"),
        *linear("attention/self/value", f"{_AT}.attention.value", "HH"),
        *linear("attention/output/dense", f"{_AT}.attention.dense", "HH"),
        *norm("attention/output/LayerNorm", f"{_AT}.attention.LayerNorm"),
        *linear("intermediate/dense", f"{_AT}.ffn", "HI"),
        *linear("output/dense", f"{_AT}.ffn_output", "IH"),
        *norm("output/LayerNorm", f"{_AT}.full_layer_layer_norm"),
    ),
    pooler=_POOLER,
    classifier=(*_POOLER, *LABELS),
    masked_lm=(
        *linear("predictions/dense", "predictions.dense", "HE"),
        *norm("predictions/LayerNorm", "predictions.LayerNorm", "E"),
        Line("predictions/decoder", "predictions.decoder.weight", "VE"),
        Line("predictions/bias", ("predictions.bias", "predictions.decoder.bias"), "V"),
    ),
)
