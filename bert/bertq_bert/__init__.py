"""The models of bertq: checkpoints, tokenizers and graphs. The package does not use queues.

Importing it imports neither TensorFlow nor the tokenizer. ``read_source`` reads a model,
``Encoder.build`` builds its graph on a device, and ``load_encoder`` does both.
"""

from typing import TYPE_CHECKING, Any

from bertq_bert.errors import ModelError
from bertq_bert.pooling import DTYPES, POOLING_STRATEGIES

if TYPE_CHECKING:
    from bertq_bert.encoder import Encoder, load_encoder
    from bertq_bert.model import Model
    from bertq_bert.source import Source, read_source

__all__ = [
    "DTYPES",
    "POOLING_STRATEGIES",
    "Encoder",
    "Model",
    "ModelError",
    "Source",
    "load_encoder",
    "read_source",
]


def __getattr__(name: str) -> Any:
    if name in ("Encoder", "load_encoder"):
        from bertq_bert import encoder

        return getattr(encoder, name)
    if name in ("Model", "Source", "read_source"):
        from bertq_bert import source

        return getattr(source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
