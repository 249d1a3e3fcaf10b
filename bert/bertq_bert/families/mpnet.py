"""MPNet (Song et al. 2020): absolute positions and one relative attention bias for all layers."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.bert import DENSE_CLASSIFIER, LM_HEAD, POOLER, read_block
from bertq_bert.families.family import Family, Line, linear, norm
from bertq_bert.families.fields import Fields


def _read(fields: Fields) -> NetworkConfig:
    values = read_block(fields, offset=2, segments=0) | {
        "relative_buckets": fields.size("relative_attention_num_buckets", default=32, least=4),
        "padding_id": 1,
        "masked_lm_act": "gelu",
    }
    return NetworkConfig(**values)  # type: ignore[arg-type]


MPNET = Family(
    name="MPNet",
    model_types=("mpnet",),
    read=_read,
    prefixes=("mpnet.",),
    embeddings=(
        Line("embeddings/word_embeddings", "embeddings.word_embeddings.weight", "VE"),
        Line("embeddings/position_embeddings", "embeddings.position_embeddings.weight", "PE"),
        *norm("embeddings/LayerNorm", "embeddings.LayerNorm", "E"),
        Line("encoder/relative_attention_bias", "encoder.relative_attention_bias.weight", "BA"),
    ),
    layer=(
        *linear("attention/self/query", "encoder.layer.{}.attention.attn.q", "HH"),
        *linear("attention/self/key", "encoder.layer.{}.attention.attn.k", "HH"),
        *linear("attention/self/value", "encoder.layer.{}.attention.attn.v", "HH"),
        *linear("attention/output/dense", "encoder.layer.{}.attention.attn.o", "HH"),
        *norm("attention/output/LayerNorm", "encoder.layer.{}.attention.LayerNorm"),
        *linear("intermediate/dense", "encoder.layer.{}.intermediate.dense", "HI"),
        *linear("output/dense", "encoder.layer.{}.output.dense", "IH"),
        *norm("output/LayerNorm", "encoder.layer.{}.output.LayerNorm"),
    ),
    pooler=POOLER,
    classifier=DENSE_CLASSIFIER,
    masked_lm=LM_HEAD,
)
