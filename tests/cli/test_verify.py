"""``bertq verify``: the same vectors, and all that can have changed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bertq import BertClient
from bertq.errors import BadInputValue, BertqError
from bertq_cli.commands.verify import verify
from tests.tiny_service import TinyService, tiny_service

LINES = [f"the light of day {number} {'in the beginning ' * (number % 9)}" for number in range(300)]


@pytest.fixture(scope="module")
def service(module_redis_url: str) -> Iterator[TinyService]:
    with tiny_service(module_redis_url, {None: "bert-prompt", "other": "bert-cls-old"}) as running:
        yield running


@pytest.fixture(scope="module")
def url(module_redis_url: str, service: TinyService) -> str:
    return module_redis_url


@pytest.fixture
def client(url: str) -> Iterator[BertClient]:
    with BertClient(redis_url=url, timeout=60, check_length=False) as made:
        yield made


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A corpus and the path of its vectors."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(LINES) + "\n")
    return corpus, tmp_path / "v.npy"


def run(url: str, *arguments: object) -> tuple[int, list[str]]:
    done = CliRunner().invoke(verify, [*map(str, arguments), "--redis-url", url])
    if isinstance(done.exception, BertqError):
        raise done.exception
    return done.exit_code, done.output.splitlines()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": True, "dimensions": 8},
        {"precision": "binary"},
        {"precision": "float16", "input_type": "query"},
        {"is_tokenized": True, "normalize": True},
    ],
)
def test_the_same(client: BertClient, url: str, files: tuple[Path, Path], options: Any) -> None:
    client.encode_file(*files, **options)
    status, (line,) = run(url, *files)
    assert status == 0
    assert line.startswith("same: 256 of 300 rows compared, model ")
    assert run(url, *files, "--rows", "1000")[1][0].startswith("same: 300 of 300 rows")


@pytest.mark.parametrize("blank", ["zero", "skip"])
def test_blank_lines(client: BertClient, url: str, files: tuple[Path, Path], blank: Any) -> None:
    files[0].write_text("\n" + "\n\n".join(LINES) + "\n")
    client.encode_file(*files, blank=blank)
    status, (line,) = run(url, *files, "--rows", "1000")
    count = 600 if blank == "zero" else 300
    assert (status, line.partition(",")[0]) == (0, f"same: {count} of {count} rows compared")


def test_another_model(client: BertClient, url: str, files: tuple[Path, Path]) -> None:
    client.encode_file(*files)
    status, lines = run(url, *files, "--model", "other")
    assert status == 1
    assert lines[0].startswith("changed: model: the vectors were made with ")
    assert lines[1].startswith(
        "changed: rows: 256 of 256 differ, the first is that of line 1 (dist"
    )


def test_another_input(client: BertClient, url: str, files: tuple[Path, Path]) -> None:
    client.encode_file(*files)
    corpus = files[0]
    corpus.write_text("\n".join([*LINES, "one more"]) + "\n")
    status, lines = run(url, *files)
    assert status == 1
    (line,) = lines
    assert line == (
        f"changed: input: {corpus} is not the file that was encoded, "
        "it has 301 lines instead of 300"
    )
    corpus.write_text("\n".join(["he shall", *LINES[1:]]) + "\n")
    status, lines = run(url, *files)
    assert status == 1
    assert lines[0].endswith("some of its lines are different")
    assert lines[1].startswith("changed: rows: 1 of 256 differ, the first is that of line 1 (dist")
    corpus.write_text("\n".join(LINES[:150]) + "\n")
    assert run(url, *files)[1][1] == "changed: rows: 128 of 256 have no line any more"


def test_rows_that_were_changed(client: BertClient, url: str, files: tuple[Path, Path]) -> None:
    client.encode_file(*files)
    rows = np.load(files[1])
    rows[299] *= 2
    np.save(files[1], rows)
    status, lines = run(url, *files)
    assert status == 1
    assert lines == [
        "changed: rows: 1 of 256 differ, the first is that of line 300 (distance 0.500)"
    ]
    np.save(files[1], rows[:, :5])
    with pytest.raises(BadInputValue, match="its manifest says 300 rows of 24: another program"):
        run(url, *files)


def test_a_prompt_is_asked_for(client: BertClient, url: str, files: tuple[Path, Path]) -> None:
    client.encode_file(*files, prompt="a secret: ")
    with pytest.raises(
        BadInputValue, match="was made with a prompt, which is not stored"
    ) as caught:
        run(url, *files)
    assert "secret" not in str(caught.value)
    with pytest.raises(BadInputValue, match="was made with another prompt, or with none"):
        run(url, *files, "--prompt", "another")
    assert run(url, *files, "--prompt", "a secret: ")[0] == 0


def test_no_prompt(client: BertClient, url: str, files: tuple[Path, Path]) -> None:
    client.encode_file(*files, prompt="")
    assert run(url, *files)[0] == 0
    assert run(url, *files, "--prompt", "")[0] == 0


def test_files_that_cannot_be_verified(
    client: BertClient, url: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    corpus, vectors = files
    with pytest.raises(BadInputValue, match=r"only vectors in .npy files can be verified"):
        run(url, corpus, tmp_path / "v.jsonl")
    with pytest.raises(BadInputValue, match=r"v.npy.json, which says how .* does not exist"):
        run(url, corpus, vectors)
    client.encode_file(*files)
    beside = tmp_path / "v.npy.json"
    known = json.loads(beside.read_text())
    beside.write_text(json.dumps(known | {"complete": False}))
    with pytest.raises(BadInputValue, match=r"v.npy is not complete: let bertq encode --resume"):
        run(url, corpus, vectors)
    beside.write_text(json.dumps(known))
    vectors.write_bytes(b"x")
    with pytest.raises(BadInputValue, match=r"v.npy is damaged"):
        run(url, corpus, vectors)
