"""Each example as a user runs it, against a service."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bertq import BertClient
from examples import classify, faq
from tests.bert.checkpoints import TINY, write_tiny_hf
from tests.conftest import StartWorker, clean_environ

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
DIM = TINY["hidden_size"]


@pytest.fixture(scope="module")
def url(
    module_redis_url: str,
    module_start_worker: StartWorker,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """A service with a worker that pools, and one named ``words`` that does not."""
    # Its vocabulary has few words: a sentence has nearly as many wordpieces as letters.
    model = write_tiny_hf(tmp_path_factory.mktemp("model"), max_position_embeddings=256)
    options = ("--concurrency", "1", "--threads", "1", "--max-seq-len", "none")
    apart = ("-n", "words@%h", "--model-name", "words", "--pooling-strategy", "NONE")
    workers = [
        module_start_worker(module_redis_url, model, *options),
        module_start_worker(module_redis_url, model, *options, *apart),
    ]
    for worker in workers:
        worker.wait_ready()
    return module_redis_url


@pytest.fixture
def client(url: str) -> Iterator[BertClient]:
    """A client, to compute the expected output of the script."""
    with BertClient(redis_url=url, timeout=60) as made:
        yield made


def start(
    url: str, script: str, *arguments: str, cwd: Path = EXAMPLES
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        cwd=cwd,
        env=clean_environ() | {"BERTQ_REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=100,
    )


def run(url: str, script: str, *arguments: str) -> str:
    """Run a script that must print no error; return its output."""
    done = start(url, script, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_faq_finds_the_question_itself(url: str, client: BertClient) -> None:
    questions, answers = faq.read_faq(faq.FAQ)
    assert len(questions) == 12
    query = questions[7]
    found = re.findall(r"^(\d\.\d{3})  (.*)\n {7}(.*)$", run(url, "faq.py", query), re.MULTILINE)
    vectors = client.encode(questions)
    cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[7])
    closest = np.argsort(-cosines)[:3]
    assert [float(score) for score, _, _ in found] == pytest.approx(cosines[closest], abs=1e-3)
    assert [(q, a) for _, q, a in found] == [(questions[i], answers[i]) for i in closest]
    assert found[0] == ("1.000", query, answers[7])


def test_classify(url: str, client: BertClient) -> None:
    texts, labels = classify.flat(classify.TRAIN)
    assert len(texts) == len(set(texts)) == 18
    left_out, expected = classify.flat(classify.TEST)
    trained = LogisticRegression(max_iter=1000).fit(client.encode(texts), labels)
    predicted = trained.predict(client.encode(left_out))
    right = np.mean(predicted == np.array(expected))
    *lines, last = run(url, "classify.py").splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        list(pair) for pair in zip(predicted, left_out, strict=True)
    ]
    assert last == f"accuracy {right:.2f}: 6 sentences, trained on 18"


def test_job(url: str, client: BertClient, tmp_path: Path) -> None:
    text, target = tmp_path / "text", tmp_path / "vectors.npy"
    text.write_text("first\n\nsecond\nthird\n")
    job_id = run(url, "job.py", "submit", str(text)).strip()
    assert client.job(job_id).info.rows == 3
    assert run(url, "job.py", "fetch", job_id, str(target)) == f"{target}: (3, {DIM})\n"
    expected = client.encode(["first", "second", "third"])
    np.testing.assert_allclose(np.load(target), expected, atol=1e-6)
    assert client.jobs() == []


def test_dataset(url: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("\n".join(["first", "", "second", "  ", "third", "fourth", "fifth"]))
    done = start(url, "dataset.py", str(text), "--batch-size", "2")
    assert done.returncode == 0, done.stderr
    # TensorFlow itself logs the devices of the machine.
    assert not re.search("Warning:|Error|Traceback", done.stderr), done.stderr
    spec = f"TensorSpec(shape=(None, {DIM}), dtype=tf.float32, name=None)"
    batches = [f"  sentences ({n},), vectors ({n}, {DIM})" for n in (2, 2, 1)]
    assert done.stdout.splitlines() == [f"streamed: {spec}", *batches, f"mapped: {spec}", *batches]


def test_word_vectors(url: str) -> None:
    first, second = "that the bank is in", "In the big bank, that"
    printed = run(url, "word_vectors.py", first, second, "--model", "words").splitlines()
    cosines = {word: float(cosine) for cosine, word in (line.split("  ") for line in printed)}
    assert list(cosines) == ["that", "the", "bank", "in"]
    with BertClient(redis_url=url, model="words", timeout=60) as client:
        (one, other), tokens = client.encode([first, second], show_tokens=True)
    assert tokens[0] == ["[CLS]", "that", "the", "b", "##a", "##n", "##k", "is", "in", "[SEP]"]
    assert tokens[1][3:12] == ["b", "##i", "##g", "b", "##a", "##n", "##k", ",", "that"]
    a, b = one[3:7].mean(axis=0), other[6:10].mean(axis=0)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosines["bank"] == pytest.approx(cosine, abs=1e-3)
    assert cosine < 0.999
    same = run(url, "word_vectors.py", first, first, "--model", "words")
    assert set(re.findall(r"^\S+", same, re.MULTILINE)) == {"1.000"}


def test_word_vectors_of_workers_that_pool(url: str) -> None:
    done = start(url, "word_vectors.py", "the one", "the other")
    assert done.returncode == 1
    assert done.stderr == (
        f"The vectors have the shape (2, {DIM}), one for a sentence: these workers pool. "
        "Start workers with --pooling-strategy NONE.\n"
    )


def test_word_vectors_of_sentences_with_nothing_in_common(url: str) -> None:
    done = start(url, "word_vectors.py", "one", "another", "--model", "words")
    assert (done.returncode, done.stderr) == (1, "The sentences have no word in common.\n")


def test_bulk(url: str, client: BertClient, tmp_path: Path) -> None:
    text, target = tmp_path / "text", tmp_path / "vectors.npy"
    text.write_text("first\n\nsecond\n")
    for kept in (0, 3):
        printed = run(url, "bulk.py", str(text), str(target))
        assert printed == f"{target}: (3, {DIM}), {kept} rows of a run before\n"
    vectors = np.load(target)
    assert not vectors[1].any()
    expected = client.encode(["first", "second"])
    np.testing.assert_allclose(vectors[[0, 2]], expected, atol=1e-6)
    text.write_text("first\n\nother\n")
    done = start(url, "bulk.py", str(text), str(target))
    assert done.returncode == 1
    assert "the input has changed since" in done.stderr


def test_stream(url: str, client: BertClient, tmp_path: Path) -> None:
    # More than one batch, blank lines at both ends, and characters that some readers take for a
    # line end.
    lines = [f"this is {n % 700} of many" if n % 5 else " " for n in range(3000)]
    lines[1] = "a\rb\x0cc\u2028d"
    lines[2] += "\r"
    (tmp_path / "text").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    done = start(url, "stream.py", "text", "out.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"out.npy: (3000, {DIM})\n"
    assert "3000/3000" in done.stderr.splitlines()[-1]
    assert "Warning" not in done.stderr
    array = np.load(tmp_path / "out.npy", mmap_mode="r")
    assert array.dtype == np.float32
    blank = [n for n, line in enumerate(lines) if not line.strip()]
    others = [n for n, line in enumerate(lines) if line.strip()]
    assert len(blank) == 600
    assert not array[blank].any()
    expected = client.encode([lines[n].strip() for n in others])
    np.testing.assert_allclose(array[others], expected, rtol=0, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "text"]


def test_stream_of_nothing(url: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\n\n")
    done = start(url, "stream.py", "text", "out.npy", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "text has no line that is not blank"
    assert not (tmp_path / "out.npy").exists()


def test_processes(url: str) -> None:
    printed = run(url, "processes.py", "--processes", "2")
    part = rf"  process (\d+): vectors \(100, {DIM}\)\n"
    half = part * 2 + "  same as the parent's: True\n"
    matched = re.fullmatch(
        rf"parent (\d+): vectors \(200, {DIM}\)\n"
        rf"a client in each process:\n{half}"
        rf"a client that was made before the fork:\n{half}"
        rf"parent \1: still works, vectors \(1, {DIM}\)\n",
        printed,
    )
    assert matched, printed
    parent, *children = matched.groups()
    assert parent not in children
    # Each pool had two processes, or one of them did all the work.
    assert not set(children[:2]) & set(children[2:])


def test_aio(url: str) -> None:
    assert run(url, "aio.py", "--requests", "30").splitlines() == [
        f"gather: 30 requests, vectors (2, {DIM}) each",
        f"stream: from message 0, vectors (40, {DIM})",
        f"stream: from message 40, vectors (40, {DIM})",
        f"stream: from message 80, vectors (20, {DIM})",
        "timeout: given up, cancelled: True",
        f"after it: vectors (1, {DIM})",
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_example_has_a_test_and_says_how_to_run_it(script: str) -> None:
    name = script.removesuffix(".py")
    assert any(test == f"test_{name}" or test.startswith(f"test_{name}_") for test in globals())
    docstring = (EXAMPLES / script).read_text(encoding="utf-8").split('"""')[1]
    assert "bertq serve --model-dir DIR" in docstring
    assert f"python examples/{script}" in docstring


def test_the_readme_lists_every_example() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+\.py)`\]\((\w+\.py)\) \| .+ \|$", readme, re.MULTILINE)
    assert sorted(listed) == [(script, script) for script in SCRIPTS]
