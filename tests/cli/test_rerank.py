"""``bertq rerank``: documents of one query, files of queries, and their mistakes."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from redis import Redis

from bertq import BertClient
from bertq.errors import BadInputValue, OutputError, SentenceTooLong, UnknownJob
from bertq.protocol import keys
from bertq_cli.commands.rerank import rerank
from tests.cli.runs import invoke
from tests.tiny_service import tiny_service

DOCUMENTS = ["the light of the old harbour", "in the beginning", "and the evening"]


@pytest.fixture(scope="module")
def url(module_redis_url: str) -> Iterator[str]:
    with tiny_service(module_redis_url, {None: "cross-bert"}):
        yield module_redis_url


def run(url: str, *arguments: object) -> str:
    return invoke(rerank, *arguments, "--redis-url", url, "-q")


@pytest.fixture
def client(url: str) -> Iterator[BertClient]:
    with BertClient(redis_url=url, timeout=60, check_length=False) as made:
        yield made


def test_the_lines_of_a_file(client: BertClient, url: str, tmp_path: Path) -> None:
    source = tmp_path / "documents.txt"
    source.write_text("\n\n".join(DOCUMENTS))
    expected = [
        f"{score:.6f}\t{2 * index + 1}\t{DOCUMENTS[index]}"
        for index, score in client.rerank("day", DOCUMENTS)
    ]
    assert run(url, source, "--query", "day").splitlines() == expected
    assert run(url, source, "--query", "day", "-n", "1").splitlines() == expected[:1]
    source.write_text("short\n\n" + "long " * 200)
    with pytest.raises(SentenceTooLong, match=r"documents.txt, line 3: more tokens than the 96"):
        run(url, source, "--query", "day", "--truncate", "error")


def test_a_file_of_queries(client: BertClient, url: str, tmp_path: Path) -> None:
    source, output = tmp_path / "candidates.jsonl.gz", tmp_path / "ranked.jsonl"
    queries = [
        (f"query {number}", [f"{text} {number}" for text in DOCUMENTS * (1 + number % 5)])
        for number in range(400)
    ]
    with gzip.open(source, "wt") as file:
        for query, documents in queries:
            file.write(json.dumps({"id": 1, "query": query, "documents": documents}) + "\n")
    assert run(url, source, "-n", "2", "-o", output) == ""
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 401))
    for number in (0, 1, 7, 399):
        found = client.rerank(*queries[number], 2)
        assert [result["index"] for result in lines[number]["results"]] == [d.index for d in found]
        scores = [result["score"] for result in lines[number]["results"]]
        assert scores == pytest.approx([document.score for document in found], abs=1e-6)
    with pytest.raises(OutputError, match=r"already exists: .* add --overwrite"):
        run(url, source, "-o", output)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, output.name]
    shown = invoke(rerank, source, "-o", output, "--overwrite", "--redis-url", url)
    assert "400 queries [" in shown


def test_a_durable_job(client: BertClient, url: str, tmp_path: Path) -> None:
    source, query = tmp_path / "documents.txt", ["--query", "day"]
    source.write_text("\n\n".join(DOCUMENTS))
    job_id = run(url, source, *query, "--submit", "--ttl", 1000).strip()
    assert 900 < Redis.from_url(url).ttl(keys.job(job_id)) <= 1000
    with pytest.raises(BadInputValue, match="ttl must be"):
        run(url, source, *query, "--submit", "--ttl", 0.5)
    assert run(url, source, *query, "--job", job_id, "-n", "2") == run(url, source, *query, "-n", 2)
    source.write_text("another file")
    with pytest.raises(BadInputValue, match=r"has 3 documents, and .*documents.txt has 1: give"):
        run(url, source, *query, "--job", job_id)
    queries = [(f"query {number}", DOCUMENTS[number % 3 :]) for number in range(300)]
    candidates, output = tmp_path / "candidates.jsonl", tmp_path / "ranked.jsonl"
    lines = [json.dumps({"query": query, "documents": found}) for query, found in queries]
    candidates.write_text("\n".join(lines))
    job_id = run(url, candidates, "--submit").strip()
    run(url, candidates, "--job", job_id, "-o", output)
    scores = client.job(job_id).result(60)
    assert scores.shape == (600, 1)
    found = [json.loads(line)["results"] for line in output.read_text().splitlines()]
    for number in (0, 1, 299):
        expected = client.rerank(*queries[number])
        assert [result["index"] for result in found[number]] == [one.index for one in expected]
    client.job(job_id).discard()
    with pytest.raises(UnknownJob):
        run(url, candidates, "--job", job_id)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: it is not JSON"),
        ("[]", "line 2: it is no object with the fields query and documents"),
        ('{"query": "a"}', "line 2: it is no object with the fields query and documents"),
        ('{"query": " ", "documents": ["a"]}', "line 2: field 'query' must be a str that is not"),
        ('{"query": "a", "documents": "a"}', "line 2: field 'documents' must be a list of str"),
        ('{"query": "a", "documents": ["a", ""]}', r"line 2: documents\[1\] must be a str that"),
        ('{"query": "a", "documents": []}', "line 2: field 'documents' is an empty list: it must"),
        (" ", "line 2: it is blank"),
        (
            json.dumps({"query": "a", "documents": ["a", "long " * 200]}),
            r"documents\[1\] of query 2: more tokens than the 96 that the model reads",
        ),
    ],
)
def test_a_mistake_names_its_line(url: str, tmp_path: Path, line: str, message: str) -> None:
    source, output = tmp_path / "candidates.jsonl", tmp_path / "ranked.jsonl"
    source.write_text('{"query": "a", "documents": ["b"]}\n' + line + "\n")
    with pytest.raises(BadInputValue, match=message):
        run(url, source, "--truncate", "error", "-o", output)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("options", [("--query", "day"), ()])
def test_the_input_is_not_overwritten(url: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    source = tmp_path / "candidates.jsonl"
    source.write_text('{"query": "a", "documents": ["b"], "text": "c"}')
    (tmp_path / "link").symlink_to(source)
    for output in (source, tmp_path / "link"):
        with pytest.raises(OutputError, match="would be written over the input"):
            run(url, source, "-o", output, "--overwrite", *options)


def test_there_is_nothing_to_rerank(url: str, tmp_path: Path) -> None:
    source = tmp_path / "documents.txt"
    source.write_text("a")
    with pytest.raises(BadInputValue, match="--query is blank"):
        run(url, source, "--query", " ")
    done = CliRunner().invoke(rerank, ["candidates.jsonl", "--field", "title"])
    assert "--field is the field of a document: give --query too" in done.output
    done = CliRunner().invoke(rerank, ["-", "--query", "day", "--redis-url", url], input="\n")
    assert "standard input has no line that is not blank" in str(done.exception)
