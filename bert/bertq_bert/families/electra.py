"""ELECTRA (Clark et al. 2020): BERT with embeddings that may be narrower than the layers."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.bert import DENSE_CLASSIFIER, EMBEDDINGS, LAYER, read_block
from bertq_bert.families.family import Family, Line, linear, norm
from bertq_bert.families.fields import Fields


def _read(fields: Fields) -> NetworkConfig:
    values = read_block(fields)
    width = fields.size("embedding_size", default=128)
    values |= {
        # If the widths are equal, there is no projection.
        "embedding_size": None if width == values["hidden_size"] else width,
        "head_act": "gelu",
        "masked_lm_act": "gelu",
    }
    return NetworkConfig(**values)  # type: ignore[arg-type]


ELECTRA = Family(
    name="ELECTRA",
    model_types=("electra",),
    read=_read,
    prefixes=("electra.",),
    embeddings=(*EMBEDDINGS, *linear("embeddings/project", "embeddings_project", "EH")),
    layer=LAYER,
    classifier=DENSE_CLASSIFIER,
    masked_lm=(
        *linear("predictions/dense", "generator_predictions.dense", "HE"),
        *norm("predictions/LayerNorm", "generator_predictions.LayerNorm", "E"),
        Line("predictions/decoder", "generator_lm_head.weight", "VE"),
        Line("predictions/bias", "generator_lm_head.bias", "V"),
    ),
)
