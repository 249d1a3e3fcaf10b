"""DistilBERT (Sanh et al. 2019): half of BERT's layers, no segments, no pooler."""

from bertq_bert.config import NetworkConfig
from bertq_bert.families.bert import LABELS
from bertq_bert.families.family import Family, Line, linear, norm
from bertq_bert.families.fields import Fields


def _read(fields: Fields) -> NetworkConfig:
    return NetworkConfig(
        family=fields.family,
        vocab_size=fields.size("vocab_size"),
        hidden_size=fields.size("dim", "hidden_size"),
        num_hidden_layers=fields.size("n_layers", "num_hidden_layers"),
        num_attention_heads=fields.size("n_heads", "num_attention_heads"),
        intermediate_size=fields.size("hidden_dim", "intermediate_size"),
        max_position_embeddings=fields.size("max_position_embeddings"),
        type_vocab_size=0,
        hidden_act=fields.activation("activation"),
        masked_lm_act=fields.activation("activation"),
        head_act="relu",
        tied_embeddings=fields.flag("tie_word_embeddings", True),
    )


DISTILBERT = Family(
    name="DistilBERT",
    model_types=("distilbert",),
    read=_read,
    prefixes=("distilbert.",),
    embeddings=(
        Line("embeddings/word_embeddings", "embeddings.word_embeddings.weight", "VE"),
        Line("embeddings/position_embeddings", "embeddings.position_embeddings.weight", "PE"),
        *norm("embeddings/LayerNorm", "embeddings.LayerNorm", "E"),
    ),
    layer=(
        *linear("attention/self/query", "transformer.layer.{}.attention.q_lin", "HH"),
        *linear("attention/self/key", "transformer.layer.{}.attention.k_lin", "HH"),
        *linear("attention/self/value", "transformer.layer.{}.attention.v_lin", "HH"),
        *linear("attention/output/dense", "transformer.layer.{}.attention.out_lin", "HH"),
        *norm("attention/output/LayerNorm", "transformer.layer.{}.sa_layer_norm"),
        *linear("intermediate/dense", "transformer.layer.{}.ffn.lin1", "HI"),
        *linear("output/dense", "transformer.layer.{}.ffn.lin2", "IH"),
        *norm("output/LayerNorm", "transformer.layer.{}.output_layer_norm"),
    ),
    classifier=(*linear("pooler/dense", "pre_classifier", "HH"), *LABELS),
    masked_lm=(
        *linear("predictions/dense", "vocab_transform", "HE"),
        *norm("predictions/LayerNorm", "vocab_layer_norm", "E"),
        Line("predictions/decoder", "vocab_projector.weight", "VE"),
        Line("predictions/bias", "vocab_projector.bias", "V"),
    ),
)
