"""Errors of models and of requests to them.

    ModelError
    ├── MissingFile         a directory or a file that does not exist
    ├── BrokenFile          a file that exists and cannot be read
    ├── UnsafeCheckpoint    a pickle
    ├── UnsupportedModel    a family, module or tokenizer that bertq does not run
    ├── BadConfig           a hyper-parameter that is missing or impossible
    ├── MissingVariable     a tensor that the checkpoint lacks
    ├── WrongShape          a tensor whose shape does not match the config
    ├── BadVocabulary       no [CLS], or more tokens than embeddings
    ├── BadOption           (also a ValueError)
    │   ├── UnknownPooling
    │   ├── UnknownLayer
    │   ├── UnknownDtype
    │   └── BadLength
    ├── BadRequest          a request that this model cannot answer: its caller's mistake
    │   ├── UnsuitedRows    (also a BadOption) rows that cannot be normalized, shortened or
    │   │                   quantized as requested
    │   └── BadIds          (also a ValueError) sequences that the model cannot read
    │       ├── NoPairs
    │       └── UnknownPrompt
    └── OutOfMemory         the device has too little memory for a batch

Each message is one line with the value and the remedy. No message contains a user's text.
"""

__all__ = [
    "BadConfig",
    "BadIds",
    "BadLength",
    "BadOption",
    "BadRequest",
    "BadVocabulary",
    "BrokenFile",
    "MissingFile",
    "MissingVariable",
    "ModelError",
    "NoPairs",
    "OutOfMemory",
    "UnknownDtype",
    "UnknownLayer",
    "UnknownPooling",
    "UnknownPrompt",
    "UnsafeCheckpoint",
    "UnsuitedRows",
    "UnsupportedModel",
    "WrongShape",
]


class ModelError(Exception):
    """The base class of all errors of this package."""


class MissingFile(ModelError):
    """A directory or a file of the model does not exist."""


class BrokenFile(ModelError):
    """A file of the model cannot be read: it is incomplete, damaged or in another format."""


class UnsafeCheckpoint(ModelError):
    """The weights are a pickle, which can run code when it is opened."""


class UnsupportedModel(ModelError):
    """The model's family, a module or the tokenizer is not supported."""


class BadConfig(ModelError):
    """A hyper-parameter is missing or impossible."""


class MissingVariable(ModelError):
    """The checkpoint lacks a tensor that the config requires."""


class WrongShape(ModelError):
    """The shape of a tensor does not match the config."""


class BadVocabulary(ModelError):
    """The vocabulary lacks a special token or does not fit the embedding table."""


class BadOption(ModelError, ValueError):
    """The value of an option is not valid for the model."""


class UnknownPooling(BadOption):
    """The pooling strategy is unknown."""


class UnknownLayer(BadOption):
    """The model has no such encoder layer."""


class UnknownDtype(BadOption):
    """The compute dtype is unknown, or its range does not include all weights."""


class BadLength(BadOption):
    """``max_seq_len`` or ``max_batch_size`` is out of the model's range."""


class BadRequest(ModelError):
    """This model cannot answer the request; another request may succeed."""


class UnsuitedRows(BadOption, BadRequest):
    """The rows of the model cannot be normalized, shortened or quantized as requested."""


class BadIds(BadRequest, ValueError):
    """A sequence of token ids is empty, too long or has an unknown id, or a text is not valid."""


class NoPairs(BadIds):
    """A text is a pair of sentences, and the model has only one segment type."""


class UnknownPrompt(BadIds):
    """A request names a prompt that the model does not have."""


class OutOfMemory(ModelError):
    """The device has too little memory for a batch."""
