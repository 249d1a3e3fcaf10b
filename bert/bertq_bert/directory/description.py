"""The settings of a model besides its network and tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bertq_bert.pooling import Step


@dataclass(frozen=True)
class Description:
    """The settings of a model besides its network and tokenizer."""

    #: folder of the transformer's files
    transformer: Path
    #: ``embed``, ``score`` or ``sparse``
    task: str
    #: the file that says so, for messages
    origin: str
    #: pooling modes in order; one of ``splade_max`` and ``splade_sum`` if the task is sparse
    modes: tuple[str, ...] = ()
    include_prompt: bool = True
    #: modules after the pooling, each with the folder of its weights
    steps: tuple[tuple[Step, Path], ...] = ()
    #: of the labels, or of SPLADE's logits; None: by their number
    activation: str | None = None
    #: most tokens of a text; None where only the network limits it
    max_seq_len: int | None = None
    #: whether the text is made lower case before the tokenizer
    lower: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    labels: tuple[str, ...] = ()
