"""Messages of the client in the words of the command line."""

import pytest

from bertq_cli.wording import for_command_line


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "from a run that did not end: resume continues it, overwrite begins anew",
            "from a run that did not end: --resume continues it, --overwrite begins anew",
        ),
        ("x exists already: overwrite replaces it", "x exists already: --overwrite replaces it"),
        ("or overwrite the file", "or replace the file with --overwrite"),
        ("has more lines: overwrite it", "has more lines: replace it with --overwrite"),
        ("resume with the same options", "--resume with the same options"),
        ("run again with --resume (resume=True)", "run again with --resume"),
        ("max_seq_len is 2: give 3", "--max-seq-len is 2: give 3"),
        ("so its max_seq_len is unknown", "so its max_seq_len is unknown"),
        (
            'shorten the texts, or pass truncate="right" or "left"',
            "shorten the texts, or pass --truncate right or left",
        ),
        (
            "no worker takes from queue x; start one with celery -A bertq worker",
            "no worker takes from queue x; start one, with bertq serve or celery -A bertq worker",
        ),
        (
            "field is 'q', and the input is text: give input_format 'jsonl'",
            "--field is 'q', and the input is text: give --input-format 'jsonl'",
        ),
        ("field 'q' is not a str", "field 'q' is not a str"),
        ("no such file: /data/max_seq_len", "no such file: /data/max_seq_len"),
        ("the sentence said: overwrite", "the sentence said: overwrite"),
    ],
)
def test_options_have_their_names(message: str, expected: str) -> None:
    assert for_command_line(message) == expected
    assert for_command_line(expected) == expected
