"""The worker's settings: one table, read from ``BERTQ_*`` variables and worker options.

Importing this module reads nothing from the environment. ``Settings.read`` takes a mapping of the
variables, and the options of the command line, which take precedence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from bertq.config import parsers
from bertq.errors import SettingsError
from bertq.protocol import queues


def setting(
    parse: Callable[[str], object], default: object, option: str, text: str, metavar: str = "N"
) -> Any:
    """Declare a field with its parser, default, option and the option's help."""
    return field(
        default=default,
        metadata={"parse": parse, "option": option, "help": text, "metavar": metavar},
    )


def flag(default: bool | None, option: str, text: str, *names: str) -> Any:
    """Declare a field that is on or off; its option takes no value.

    Args:
        default: the value if neither the option nor the variable is given.
        option: the option that turns it on.
        text: help of the option.
        names: declarations for click, if there are more than ``option``.
    """
    given = {"option": option, "help": text, "metavar": None, "names": names or (option,)}
    return field(default=default, metadata={"parse": parsers.flag, **given})


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"BERTQ_{name.upper()}"


@dataclass(frozen=True)
class Settings:
    """The settings of a worker. Each field is ``BERTQ_<NAME>`` and a worker option."""

    model_dir: str | None = setting(
        parsers.directory, None, "--model-dir", "Directory of the model to load.", "DIR"
    )
    tuned_model_dir: str | None = setting(
        parsers.directory,
        None,
        "--tuned-model-dir",
        "Directory of a fine-tuned checkpoint; config and vocabulary are those of --model-dir.",
        "DIR",
    )
    ckpt_name: str | None = setting(
        parsers.file_name,
        None,
        "--ckpt-name",
        "Name of the checkpoint, if it is not the usual one: model.ckpt-1234.",
        "FILE",
    )
    config_name: str | None = setting(
        parsers.file_name,
        None,
        "--config-name",
        "Name of the model's config, if it is not the usual one.",
        "FILE",
    )
    model_name: str | None = setting(
        parsers.model_name,
        None,
        "--model-name",
        "Serve the model under this name, on separate queues, so that one Redis can have "
        "several: BertClient(model=NAME).",
        "NAME",
    )
    compat: str | None = setting(
        parsers.compat,
        None,
        "--compat",
        "bert-as-service: the defaults and the tokenizer of bert-as-service for any directory, "
        "even if it has a modules.json.",
        "NAME",
    )
    cased: bool | None = flag(
        None,
        "--cased",
        "Whether the tokenizer keeps capitals and accents; by default the model's files decide.",
        "--cased/--uncased",
        "--cased-tokenization",
    )
    max_seq_len: int | str | None = setting(
        parsers.sequence_length,
        None,
        "--max-seq-len",
        "Maximum tokens to read from a text, special tokens included; the rest is cut off. "
        "'none': the model's own limit. By default the model's directory decides, or it is 25.",
    )
    max_batch_size: int = setting(
        parsers.positive_int, 256, "--max-batch-size", "Maximum sentences in one batch."
    )
    priority_batch_size: int = setting(
        parsers.positive_int,
        queues.PRIORITY_BATCH_SIZE,
        "--priority-batch-size",
        "Chunks of at most this many sentences take turns with larger ones, batch by batch.",
    )
    pooling_strategy: str | None = setting(
        parsers.pooling,
        None,
        "--pooling-strategy",
        "How the token vectors of a text become one: REDUCE_MEAN, REDUCE_MAX, REDUCE_MEAN_MAX, "
        "CLS_TOKEN, SEP_TOKEN, CLS_POOLED, CLASSIFICATION, REGRESSION, NONE; cls, mean, max, "
        "mean_sqrt_len_tokens, weightedmean, lasttoken; SPLADE_MAX, SPLADE_SUM. By default the "
        "model's directory decides, or it is REDUCE_MEAN.",
        "NAME",
    )
    pooling_layer: tuple[int, ...] | None = setting(
        parsers.layers,
        None,
        "--pooling-layer",
        "Encoder layer to pool, -1 for the last; several, such as -1,-2, are concatenated. By "
        "default the model's directory decides, or it is -2.",
        "LAYERS",
    )
    num_labels: int | None = setting(
        parsers.positive_int,
        None,
        "--num-labels",
        "Number of outputs of a fine-tuned head (CLASSIFICATION, REGRESSION); by default that of "
        "its checkpoint.",
    )
    mask_cls_sep: bool = flag(
        False, "--mask-cls-sep", "Exclude the vectors of [CLS] and [SEP] from the pooling."
    )
    no_special_token: bool = flag(
        False, "--no-special-token", "Add no [CLS] and [SEP] to texts that clients send as tokens."
    )
    no_position_embeddings: bool = flag(
        False,
        "--no-position-embeddings",
        "Add no position embeddings; --max-seq-len then has no limit.",
    )
    dtype: str = setting(
        parsers.lower,
        "float32",
        "--dtype",
        "Type that the graph computes in: float32, tf32 (on a GPU), bfloat16 or float16. Rows are "
        "float32.",
        "NAME",
    )
    int8_ranges: str | None = setting(
        parsers.path,
        None,
        "--int8-ranges",
        "Ranges of the model's vectors, written by bertq int8-ranges: clients can then request "
        "precision int8 or uint8.",
        "FILE",
    )
    threads: int | None = setting(
        parsers.positive_int,
        None,
        "--threads",
        "CPU threads of the graph; by default one for each core.",
    )
    gpu_memory_fraction: float | None = setting(
        parsers.fraction,
        None,
        "--gpu-memory-fraction",
        "Fraction of its GPU's memory that a worker may use, above 0 and at most 1; by default "
        "there is no limit.",
        "SHARE",
    )
    compile: bool | None = flag(
        None,
        "--compile",
        "Whether XLA compiles batches of the shapes that are used, while the worker serves; by "
        "default on a GPU.",
        "--compile/--no-compile",
    )
    compile_cache: str | None = setting(
        parsers.path,
        None,
        "--compile-cache",
        "Directory that stores what XLA has compiled, up to 1 GiB, for the next start; workers can "
        "share it. By default nothing is stored.",
        "DIR",
    )
    batch_timeout: float = setting(
        parsers.seconds,
        300.0,
        "--batch-timeout",
        "The worker ends if one batch takes longer, because the graph hangs.",
        "SECONDS",
    )
    show_tokens_to_client: bool = flag(
        True,
        "--show-tokens-to-client",
        "Whether clients may request the wordpieces of their sentences.",
        "--show-tokens-to-client/--no-show-tokens-to-client",
    )
    remote_control: bool = flag(
        True,
        "--remote-control",
        "Whether the worker obeys Celery's remote control, which the Flower dashboard uses: anyone "
        "who may publish on this Redis can end the worker.",
        "--remote-control/--no-remote-control",
    )
    standby: bool = flag(
        False,
        "--standby",
        "Load the model and wait until the queues are given to it by bertq models switch, or no "
        "worker of another model holds them.",
    )
    metrics_port: int | None = setting(
        parsers.port,
        None,
        "--metrics-port",
        "Port at which the worker serves /metrics for Prometheus; by default it serves none. "
        "bertq serve gives each further worker the next port.",
        "PORT",
    )
    metrics_host: str = setting(
        parsers.host,
        "127.0.0.1",
        "--metrics-host",
        "Address at which it serves them. There is no login: keep it on a private network.",
        "ADDRESS",
    )
    log_format: str = setting(
        parsers.log_format,
        "text",
        "--log-format",
        "Format of the log: text, or json with one JSON object per line.",
        "FORMAT",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str], options: Mapping[str, object]) -> "Settings":
        """Build settings from ``BERTQ_*`` variables, overridden by options that are not None.

        Args:
            environ: the environment variables.
            options: option values by field name, as text; flags may also be bool. Other names are
                ignored.

        Raises:
            SettingsError: a value is invalid; the message has the variable or the option, and the
                value.
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


def variables(options: Mapping[str, object]) -> dict[str, str]:
    """Return the ``BERTQ_*`` variables that pass options to another process.

    Args:
        options: as for ``Settings.read``; those that are None are left out.
    """
    return {
        variable(spec.name): str(value).lower() if isinstance(value, bool) else str(value)
        for spec in fields(Settings)
        if (value := options.get(spec.name)) is not None
    }
