"""Errors of models and of requests to them.

    ModelError
    ├── MissingFile         a directory or a file that is not there
    ├── BrokenFile          a file that is there and cannot be read
    ├── UnsafeCheckpoint    a pickle
    ├── UnsupportedModel    a family, module or tokenizer that bertq does not run
    ├── BadConfig           a hyper-parameter that is missing or impossible
    ├── MissingVariable     a tensor that the checkpoint lacks
    ├── WrongShape          a tensor of another shape than the config says
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

Each message is one line with the value and the remedy. No message shows a user's text.
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
    """A file of the model exists and cannot be read: cut, damaged or of another format."""


class UnsafeCheckpoint(ModelError):
    """The weights are a pickle, which can run code when it is opened."""


class UnsupportedModel(ModelError):
    """The model is of a family, or has a module or a tokenizer, that bertq does not run."""


class BadConfig(ModelError):
    """A hyper-parameter is missing or impossible."""


class MissingVariable(ModelError):
    """The checkpoint lacks a tensor that the config calls for."""


class WrongShape(ModelError):
    """A tensor has another shape than the config calls for."""


class BadVocabulary(ModelError):
    """The vocabulary lacks a special token or does not fit the embedding table."""


class BadOption(ModelError, ValueError):
    """An option has a value that this model cannot be run with."""


class UnknownPooling(BadOption):
    """There is no such pooling strategy."""


class UnknownLayer(BadOption):
    """The model has no such encoder layer."""


class UnknownDtype(BadOption):
    """There is no such compute dtype."""


class BadLength(BadOption):
    """``max_seq_len`` or ``max_batch_size`` is out of the model's range."""


class BadRequest(ModelError):
    """This model cannot answer the request; another request may succeed."""


class UnsuitedRows(BadOption, BadRequest):
    """The rows of the model cannot be normalized, shortened or quantized as requested."""


class BadIds(BadRequest, ValueError):
    """A row of token ids is empty, too long, or names a token that is not there."""


class NoPairs(BadIds):
    """A row is a pair of sentences, and the model knows no second segment."""


class UnknownPrompt(BadIds):
    """A request names a prompt that the model does not have."""


class OutOfMemory(ModelError):
    """The device has no room for a batch."""
