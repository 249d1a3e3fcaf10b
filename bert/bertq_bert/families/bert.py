"""BERT (Devlin et al. 2018), and tables and settings for families with similar layers."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.family import Family, Line, Table, linear, norm
from bertq_bert.families.fields import Fields

EMBEDDINGS: Table = (
    Line("embeddings/word_embeddings", "embeddings.word_embeddings.weight", "VE"),
    Line("embeddings/position_embeddings", "embeddings.position_embeddings.weight", "PE"),
    Line("embeddings/token_type_embeddings", "embeddings.token_type_embeddings.weight", "TE"),
    *norm("embeddings/LayerNorm", "embeddings.LayerNorm", "E"),
)
LAYER: Table = (
    *linear("attention/self/query", "encoder.layer.{}.attention.self.query", "HH"),
    *linear("attention/self/key", "encoder.layer.{}.attention.self.key", "HH"),
    *linear("attention/self/value", "encoder.layer.{}.attention.self.value", "HH"),
    *linear("attention/output/dense", "encoder.layer.{}.attention.output.dense", "HH"),
    *norm("attention/output/LayerNorm", "encoder.layer.{}.attention.output.LayerNorm"),
    *linear("intermediate/dense", "encoder.layer.{}.intermediate.dense", "HI"),
    *linear("output/dense", "encoder.layer.{}.output.dense", "IH"),
    *norm("output/LayerNorm", "encoder.layer.{}.output.LayerNorm"),
)
POOLER: Table = linear("pooler/dense", "pooler.dense", "HH")
LABELS: Table = (
    Line("output_weights", "classifier.weight", "LH"),
    Line("output_bias", "classifier.bias", "L"),
)
#: The classifier of RoBERTa, MPNet and ELECTRA: a separate dense layer instead of a pooler.
DENSE_CLASSIFIER: Table = (
    *linear("pooler/dense", "classifier.dense", "HH"),
    Line("output_weights", "classifier.out_proj.weight", "LH"),
    Line("output_bias", "classifier.out_proj.bias", "L"),
)
#: The masked-LM head of RoBERTa and MPNet.
LM_HEAD: Table = (
    *linear("predictions/dense", "lm_head.dense", "HE"),
    *norm("predictions/LayerNorm", "lm_head.layer_norm", "E"),
    Line("predictions/decoder", "lm_head.decoder.weight", "VE"),
    Line("predictions/bias", ("lm_head.bias", "lm_head.decoder.bias"), "V"),
)


def read_block(
    fields: Fields,
    *,
    offset: int = 0,
    segments: int = 1,
    epsilon: float = 1e-12,
    activation: str = "gelu",
) -> dict[str, object]:
    """Read the settings that BERT and related families have in common.

    Args:
        fields: the values of the config.
        offset: number of rows of the position table before the first position.
        segments: minimum number of segment types; 0 for a family without segments.
        epsilon: default epsilon of LayerNorm.
        activation: default activation of the feed-forward layers.

    Returns:
        Arguments for ``NetworkConfig``.
    """
    fields.require("position_embedding_type", "absolute")
    fields.require("is_decoder", False)
    fields.require("pruned_heads", {})
    fields.require("alibi_starting_size")
    return {
        "family": fields.family,
        "vocab_size": fields.size("vocab_size"),
        "hidden_size": fields.size("hidden_size"),
        "num_hidden_layers": fields.size("num_hidden_layers"),
        "num_attention_heads": fields.size("num_attention_heads"),
        "intermediate_size": fields.size("intermediate_size"),
        "max_position_embeddings": fields.size("max_position_embeddings", least=offset + 1)
        - offset,
        "position_offset": offset,
        "type_vocab_size": fields.size("type_vocab_size", least=segments) if segments else 0,
        "hidden_act": fields.activation("hidden_act", default=activation),
        "masked_lm_act": fields.activation("hidden_act", default=activation),
        "layer_norm_eps": fields.epsilon("layer_norm_eps", default=epsilon),
        "tied_embeddings": fields.flag("tie_word_embeddings", True),
    }


def _read(fields: Fields) -> NetworkConfig:
    return NetworkConfig(**read_block(fields))  # type: ignore[arg-type]


BERT = Family(
    name="BERT",
    model_types=("bert",),
    read=_read,
    prefixes=("bert.",),
    embeddings=EMBEDDINGS,
    layer=LAYER,
    pooler=POOLER,
    classifier=(*POOLER, *LABELS),
    masked_lm=(
        *linear("predictions/dense", "cls.predictions.transform.dense", "HE"),
        *norm("predictions/LayerNorm", "cls.predictions.transform.LayerNorm", "E"),
        Line("predictions/decoder", "cls.predictions.decoder.weight", "VE"),
        Line("predictions/bias", ("cls.predictions.bias", "cls.predictions.decoder.bias"), "V"),
    ),
)
