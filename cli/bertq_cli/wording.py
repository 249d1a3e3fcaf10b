"""Messages of the client and of the model package in the words of the command line.

They are written for Python, as ``overwrite`` and ``max_seq_len``; the command line has
``--overwrite`` and ``--max-seq-len``.
"""

import re

#: Options whose names have an underscore in Python: these are never words of a sentence.
_OPTIONS = (
    "batch_size", "ckpt_name", "config_name", "gpu_memory_fraction", "input_format", "input_type",
    "int8_ranges", "max_batch_size", "max_seq_len", "model_dir", "num_labels", "pooling_layer",
    "pooling_strategy", "prompt_name", "tuned_model_dir",
)  # fmt: skip

_REPLACEMENTS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r" \(resume=True\)", ""),
        (r"(?<!-)\bresume (continues|with)\b", r"--resume \1"),
        (r"(?<!-)\boverwrite (replaces|begins)\b", r"--overwrite \1"),
        (r"(?<!-)\boverwrite (it|the file)\b", r"replace \1 with --overwrite"),
        (r"\bwith overwrite\b", "with --overwrite"),
        (r"^field (?=is ')", "--field "),
        (r'\btruncate="error"', "--truncate error"),
        (r'\btruncate="right" or "left"', "--truncate right or left"),
        (r'\btruncate "right" or "left"', "--truncate right or left"),
        (r"\bis_tokenized(=True)?\b", "--tokenized"),
        (
            r"start one with celery -A bertq worker",
            "start one, with bertq serve or celery -A bertq worker",
        ),
        (
            r"start one \(celery -A bertq worker\)",
            "start one (bertq serve, or celery -A bertq worker)",
        ),
        (
            r"\(celery -A bertq worker; BertClient\(timeout=...\) bounds the wait\)",
            "(bertq serve, or celery -A bertq worker); --timeout limits the time",
        ),
        (
            rf"(?<![\w./-])(?<!its )({'|'.join(_OPTIONS)})\b(?![./])",
            lambda found: f"--{found[1].replace('_', '-')}",
        ),
    )
]


def for_command_line(message: str) -> str:
    """Return a message with the names of options as they are on the command line."""
    for pattern, replacement in _REPLACEMENTS:
        message = pattern.sub(replacement, message)
    return message
