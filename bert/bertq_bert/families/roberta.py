"""RoBERTa (Liu et al. 2019), XLM-R and CamemBERT: BERT's block, other positions and heads."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.bert import (
    DENSE_CLASSIFIER,
    EMBEDDINGS,
    LAYER,
    LM_HEAD,
    POOLER,
    read_block,
)
from bertq_bert.families.family import Family
from bertq_bert.families.fields import Fields


def _read(fields: Fields) -> NetworkConfig:
    # The first position is the id of the padding token, plus 1.
    padding = fields.size("pad_token_id", default=1, least=0)
    values = read_block(fields, offset=padding + 1) | {
        "padding_id": padding,
        "masked_lm_act": "gelu",
    }
    return NetworkConfig(**values)  # type: ignore[arg-type]


ROBERTA = Family(
    name="RoBERTa",
    model_types=("roberta", "xlm-roberta", "camembert"),
    read=_read,
    prefixes=("roberta.",),
    embeddings=EMBEDDINGS,
    layer=LAYER,
    pooler=POOLER,
    classifier=DENSE_CLASSIFIER,
    masked_lm=LM_HEAD,
)
