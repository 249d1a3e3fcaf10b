"""BERT for bertq: checkpoints, tokenizer and graph. It knows no queue.

Importing it imports neither TensorFlow nor the tokenizer; `load_encoder` does.
"""

from typing import TYPE_CHECKING, Any

from bertq_bert.errors import ModelError
from bertq_bert.pooling import DTYPES, POOLING_STRATEGIES

if TYPE_CHECKING:
    from bertq_bert.encoder import Encoder, load_encoder

__all__ = ["DTYPES", "POOLING_STRATEGIES", "Encoder", "ModelError", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name in ("Encoder", "load_encoder"):
        from bertq_bert import encoder

        return getattr(encoder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
