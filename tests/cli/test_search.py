"""``bertq search``: the nearest lines of a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertq import BertClient
from bertq.errors import BadInputValue
from bertq_cli.commands.search import search
from tests.cli.runs import invoke
from tests.tiny_service import tiny_service

LINES = ["the light of day", "", "who keeps the sea", "  ", "in the\tbeginning"]


@pytest.fixture(scope="module")
def url(module_redis_url: str) -> Iterator[str]:
    with tiny_service(module_redis_url, {None: "bert-mean-norm-old"}):
        yield module_redis_url


def run(url: str, *arguments: object) -> list[list[str]]:
    output = invoke(search, *arguments, "--redis-url", url)
    return [line.split("\t") for line in output.splitlines()]


@pytest.mark.parametrize("blank", ["zero", "skip"])
def test_the_nearest_lines(url: str, tmp_path: Path, blank: Any) -> None:
    corpus, vectors = tmp_path / "corpus.txt", tmp_path / "v.npy"
    corpus.write_text("\n".join(LINES))
    with BertClient(redis_url=url, timeout=60) as client:
        client.encode_file(corpus, vectors, blank=blank)
    for number, line in enumerate(LINES, 1):
        if line.strip():
            (found,) = run(url, vectors, corpus, line, "-n", "1")
            assert found == ["1.000000", str(number), " ".join(line.split())]
    assert len(run(url, vectors, corpus, "day")) == (5 if blank == "zero" else 3)
    corpus.write_text("\n".join(reversed(LINES)))
    warning, *_ = run(url, vectors, corpus, "day")
    assert f"warning: {corpus} is not the file that {vectors} was made of" in warning[0]
    corpus.write_text(LINES[0])
    with pytest.raises(BadInputValue, match="QUERY is blank"):
        run(url, vectors, corpus, " ")
    with pytest.raises(BadInputValue, match=r"v.npy has more rows than .*corpus.txt has lines"):
        run(url, vectors, corpus, "day")
