"""The worker's settings: one table, read from ``BERTQ_*`` variables and worker options.

Nothing is read from the environment at import: ``Settings.read`` takes the mapping that holds the
variables and the options that were given on the command line, which win.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from bertq import queues
from bertq.errors import SettingsError


def positive_int(text: str) -> int:
    """Parse a whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError("must be a whole number above zero")
    return value


def seconds(text: str) -> float:
    """Parse a time in seconds, above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise ValueError("must be a number of seconds above zero")
    return value


def sequence_length(text: str) -> int | None:
    """Parse ``max_seq_len``: a number of wordpieces, or ``none`` for the model's own limit."""
    if text.strip().lower() == "none":
        return None
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 3:
        raise ValueError("must be 'none' or a number of at least 3 ([CLS], one wordpiece, [SEP])")
    return value


def layers(text: str) -> tuple[int, ...]:
    """Parse ``pooling_layer``: layer numbers from -1, the last, separated by commas."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or max(values) >= 0:
        raise ValueError(
            "must be layers counted from the last, -1, separated by commas: -2 or -1,-2"
        )
    return values


def directory(text: str) -> str:
    """Parse a directory's name; whether it holds a model is for the model to say."""
    if not text.strip():
        raise ValueError("must be the path of a model directory")
    return text


def setting(
    parse: Callable[[str], object], default: object, option: str, text: str, metavar: str = "N"
) -> Any:
    """Declare a field: how its text is parsed, its default, its option, the option's help."""
    return field(
        default=default,
        metadata={"parse": parse, "option": option, "help": text, "metavar": metavar},
    )


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"BERTQ_{name.upper()}"


@dataclass(frozen=True)
class Settings:
    """What a worker encodes with. Each field is ``BERTQ_<NAME>`` and a worker option."""

    model_dir: str | None = setting(
        directory, None, "--model-dir", "Directory of the BERT model to load.", "DIR"
    )
    max_seq_len: int | None = setting(
        sequence_length,
        25,
        "--max-seq-len",
        "Wordpieces of a sentence that are read, [CLS] and [SEP] included; longer sentences are "
        "cut. 'none': up to the model's own limit.",
    )
    max_batch_size: int = setting(
        positive_int, 256, "--max-batch-size", "Sentences that the graph takes at once."
    )
    priority_batch_size: int = setting(
        positive_int,
        queues.PRIORITY_BATCH_SIZE,
        "--priority-batch-size",
        "Chunks of at most so many sentences are computed before larger ones.",
    )
    pooling_strategy: str = setting(
        lambda text: text.strip().upper(),
        "REDUCE_MEAN",
        "--pooling-strategy",
        "How the token vectors of a sentence become its row: REDUCE_MEAN, REDUCE_MAX, "
        "REDUCE_MEAN_MAX, CLS_TOKEN, SEP_TOKEN, CLS_POOLED or NONE.",
        "NAME",
    )
    pooling_layer: tuple[int, ...] = setting(
        layers,
        (-2,),
        "--pooling-layer",
        "Encoder layer that is pooled, -1 the last; several, as -1,-2, are concatenated.",
        "LAYERS",
    )
    dtype: str = setting(
        lambda text: text.strip().lower(),
        "float32",
        "--dtype",
        "Type that the graph computes in: float32, bfloat16 or float16. Rows are float32.",
        "NAME",
    )
    threads: int | None = setting(
        positive_int,
        None,
        "--threads",
        "CPU threads of the graph; by default one for each core.",
    )
    batch_timeout: float = setting(
        seconds,
        300.0,
        "--batch-timeout",
        "The worker ends when the graph takes longer for one batch: it hangs.",
        "SECONDS",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str], options: Mapping[str, object]) -> "Settings":
        """Build settings from ``BERTQ_*`` variables, overridden by options that are not None.

        Args:
            environ: the environment variables.
            options: option values by field name, as text; other names are ignored.

        Raises:
            SettingsError: a value cannot be used; names the variable or the option and the value.
        """
        values: dict[str, Any] = {}
        for spec in fields(cls):
            given, source = options.get(spec.name), spec.metadata["option"]
            if given is None:
                source = variable(spec.name)
                given = environ.get(source)
            if given is None or given == "":
                continue
            try:
                values[spec.name] = spec.metadata["parse"](str(given))
            except ValueError as error:
                raise SettingsError(f"{source} is {str(given)!r}: it {error}") from None
        return cls(**values)
