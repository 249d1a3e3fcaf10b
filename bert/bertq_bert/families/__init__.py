"""The families of networks that bertq runs, each described by settings of the same network."""

from pathlib import Path

from bertq_bert.config import NetworkConfig, read_json, shown
from bertq_bert.errors import BadConfig, UnsupportedModel
from bertq_bert.families.albert import ALBERT
from bertq_bert.families.bert import BERT
from bertq_bert.families.distilbert import DISTILBERT
from bertq_bert.families.electra import ELECTRA
from bertq_bert.families.family import Family
from bertq_bert.families.fields import Fields
from bertq_bert.families.gte import GTE
from bertq_bert.families.modernbert import MODERNBERT
from bertq_bert.families.mpnet import MPNET
from bertq_bert.families.nomic import NOMIC
from bertq_bert.families.roberta import ROBERTA

FAMILIES: tuple[Family, ...] = (
    BERT,
    ROBERTA,
    MPNET,
    DISTILBERT,
    ELECTRA,
    ALBERT,
    MODERNBERT,
    NOMIC,
    GTE,
)


def read_config(path: Path) -> tuple[Family, NetworkConfig]:
    """Read the family and the hyper-parameters of a network from its config.

    Raises:
        MissingFile, BrokenFile: the file cannot be read.
        UnsupportedModel: the family is none of ``FAMILIES``, or a setting is not supported.
        BadConfig: a value is missing or impossible, or an activation is unknown.
    """
    raw = read_json(path)
    # Configs of Google have no model_type.
    kind = raw.get("model_type", "bert")
    family = next((family for family in FAMILIES if kind in family.model_types), None)
    if family is None:
        known = ", ".join(name for family in FAMILIES for name in family.model_types)
        raise UnsupportedModel(
            f"{path}: model_type {shown(kind)} is not supported: bertq runs {known}"
        )
    if raw.get("quantization_config") is not None:
        raise UnsupportedModel(
            f"{path}: quantization_config says that the weights are quantized: bertq runs float "
            "weights"
        )
    config = family.read(Fields(raw, path, family.name))
    heads = config.num_attention_heads
    if config.hidden_size % heads:
        raise BadConfig(
            f"{path}: hidden_size {config.hidden_size} is not a multiple of "
            f"num_attention_heads {heads}"
        )
    if config.rotary and config.head_size % 2:
        raise BadConfig(
            f"{path}: heads of {config.head_size} numbers cannot have rotary positions: the size "
            "must be even"
        )
    return family, config
