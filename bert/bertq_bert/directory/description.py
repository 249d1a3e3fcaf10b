"""The settings of a model other than its network and tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bertq_bert.pooling import Step


@dataclass(frozen=True)
class Description:
    """The settings of a model other than its network and tokenizer."""

    #: directory of the transformer's files
    transformer: Path
    #: ``embed``, ``score`` or ``sparse``
    task: str
    #: source of the settings, for messages: ``modules.json``, ``config.json``, ``bert-as-service``
    origin: str
    #: pooling modes in order; ``splade_max`` or ``splade_sum`` if the task is sparse
    modes: tuple[str, ...] = ()
    #: whether the pooling includes the tokens of the prompt
    include_prompt: bool = True
    #: modules after the pooling, each with the directory of its weights
    steps: tuple[tuple[Step, Path], ...] = ()
    #: activation of the labels, or of SPLADE's logits; None: it depends on the number of labels
    activation: str | None = None
    #: maximum tokens of a text; None if only the network limits them
    max_seq_len: int | None = None
    #: whether texts are converted to lower case before the tokenizer
    lower: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    labels: tuple[str, ...] = ()
