"""The options of a run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertq.errors import BadInputType, BadInputValue
from bertq.integers import check_count
from bertq.protocol.encoding import Encoding
from bertq_client.files.line import KINDS, LineFormat
from bertq_client.files.output import Output
from bertq_client.files.source import STDIN, TextSource, kind_of

#: Ways to treat a blank line.
BLANK = ("error", "zero", "skip")


@dataclass(frozen=True)
class RunOptions:
    """The arguments of ``BertClient.encode_file``.

    Raises:
        BadInputType, BadInputValue: an argument is invalid.
    """

    input: str
    output: Path
    input_format: Literal["text", "jsonl"] | None
    field: str
    blank: str
    resume: bool
    overwrite: bool
    batch_size: int | None
    progress: bool
    encoding: Encoding

    def __post_init__(self) -> None:
        if not isinstance(self.field, str):
            raise BadInputType("field must be a str")
        if not isinstance(self.blank, str) or self.blank not in BLANK:
            raise BadInputValue(f"blank must be one of {', '.join(map(repr, BLANK))}")
        if self.input_format is not None and self.input_format not in KINDS:
            raise BadInputValue(f"input_format must be one of {', '.join(map(repr, KINDS))}")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        for name in ("resume", "overwrite", "progress"):
            if not isinstance(getattr(self, name), bool):
                raise BadInputValue(f"{name} must be True or False")
        if self.resume and self.overwrite:
            raise BadInputValue("resume continues an output, overwrite replaces it: choose one")

    def source(self) -> TextSource:
        """Return the input."""
        line_format = LineFormat(
            kind_of(self.input, self.input_format), self.field, self.encoding.is_tokenized
        )
        return TextSource(self.input, line_format, allow_blank=self.blank != "error")

    def destination(self) -> Output:
        """Return the output.

        Raises:
            OutputError: vectors cannot be written there.
        """
        output = Output(self.output)
        if self.input != STDIN:
            output.check_is_not(Path(self.input))
        return output

    def defining_options(self) -> dict[str, Any]:
        """Return the options that another run must share to make the same file."""
        kind = kind_of(self.input, self.input_format)
        return {
            "output": self.output.suffix,
            "input_format": kind,
            "field": self.field if kind == "jsonl" else None,
            "blank": self.blank,
            "is_tokenized": self.encoding.is_tokenized,
            "normalize": self.encoding.normalize,
            "truncate": self.encoding.truncate,
            "precision": self.encoding.precision,
            "pairs": self.encoding.pairs,
            "prompt_name": self.encoding.prompt_name,
            "prompt": digest_prompt(self.encoding.prompt),
            "input_type": self.encoding.input_type,
            "dimensions": self.encoding.dimensions,
        }


def digest_prompt(prompt: str | None) -> str | None:
    """Return a digest of a prompt: the manifest must not contain the user's text."""
    if not prompt:
        return prompt
    data = prompt.encode(errors="surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()
