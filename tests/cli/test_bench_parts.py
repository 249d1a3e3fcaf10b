"""What `bertq bench` is made of: timing, plan, corpus, pages."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bertq_bert.config import NetworkConfig
from bertq_cli.bench import corpus, machine, page
from bertq_cli.bench.arithmetic import Arithmetic
from bertq_cli.bench.campaign import Measurement, choose_call_size
from bertq_cli.bench.document import Document, Table, grid
from bertq_cli.bench.peak import Peak, PeakFailed, measure_peak
from bertq_cli.bench.plan import TABLES, Point, Setup, points, select_feasible
from bertq_cli.bench.senders import take_texts
from bertq_cli.bench.timing import MedianRange


def test_a_spread() -> None:
    spread = MedianRange.from_values([1300, 900.4, 1000])
    assert (spread.median, spread.low, spread.high) == (1000, 900.4, 1300)
    assert spread.values == (1300, 900.4, 1000)
    assert spread.text() == "1,000 (900\N{EN DASH}1,300)"
    assert MedianRange.from_values([0.954]).text(2) == "0.95 (0.95\N{EN DASH}0.95)"
    assert json.loads(json.dumps(spread.document()))["values"] == [1300, 900.4, 1000]


def test_a_grid() -> None:
    assert grid(["x", "y"], [["1", "a|b"], ["2", "c\nd"]]) == (
        "| x | y |\n| --- | ---: |\n| 1 | a\\|b |\n| 2 | c d |"
    )
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        grid(["x", "y"], [["1"]])


def test_a_document(tmp_path: Path) -> None:
    table = Table("Speed", ["n", "rate"], [["1", "2"]], note="A note.", image="speed.png")
    made = Document("Title", {"machine": "this one"}, [table], {"rates": [2]})
    page, numbers = made.write(tmp_path / "new", "page")
    assert page.read_text() == (
        "# Title\n\n- machine: this one\n\n## Speed\n\nA note.\n\n"
        "| n | rate |\n| --- | ---: |\n| 1 | 2 |\n\n![Speed](speed.png)\n"
    )
    assert json.loads(numbers.read_text()) == {
        "title": "Title",
        "context": {"machine": "this one"},
        "rates": [2],
    }


def test_the_plan_starts_a_service_once() -> None:
    planned = points(TABLES, [1, 2])
    assert len(planned) == 2 * (5 + 5 - 1)  # 40 and 256 are in both tables of settings
    assert sum(map(len, planned.values())) == 2 * (5 + 10 + 6 + 5)
    shared = planned[Setup(2, 40, 256)]
    assert {point.table for point in shared} == set(TABLES)
    assert Point("num_client", 8, Setup(2, 40, 256), 2048, 8) in shared
    assert Point("client_batch_size", 4, Setup(2, 40, 256), 4, 1) in shared
    assert points({"max_seq_len": [20]}, [1]) == {
        Setup(1, 20, 256): [Point("max_seq_len", 20, Setup(1, 20, 256), 2048, 1)]
    }


def test_workers_without_a_device_are_left_out() -> None:
    assert select_feasible([1, 2, 4], 2, "cpu") == ([1, 2], ["4 workers: this machine has 2 cores"])
    assert select_feasible([1, 2], 1, "gpu") == ([1], ["2 workers: this machine has 1 GPU"])


@pytest.mark.parametrize(
    ("most", "share", "size"),
    [(2048, 5000, 2048), (2048, 2048, 2048), (2048, 2047, 1024), (2048, 3, 16), (4, 3, 4)],
)
def test_a_call_that_fits_its_time(most: int, share: float, size: int) -> None:
    assert choose_call_size(most, share) == size


def test_the_corpus() -> None:
    clauses = corpus.clauses()
    assert len(set(clauses)) == len(clauses) == 4096
    found = corpus.summarize(lambda texts: [len(text.split()) for text in texts])
    assert found.sentences == 4096
    assert found.sha256.startswith("be804a4e133533dc")
    assert "4,096 sentences of 14.8 wordpieces" in str(found)


def test_more_sentences_than_there_are() -> None:
    made = corpus.make_distinct(20_000)
    assert len(set(made)) == 20_000
    assert made[:4096] == list(corpus.clauses())
    assert sorted(made[5000].split()) in [sorted(text.split()) for text in corpus.clauses()]
    assert corpus.make_distinct(4, ["a b c", "d"]) == ["a b c", "d", "b c a", "c a b"]
    with pytest.raises(ValueError, match="no 5 different sentences"):
        corpus.make_distinct(5, ["a b c", "d"])


def test_sentences_that_fill_a_length() -> None:
    def count(texts: list[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    made = corpus.make_filled(320, 4096, count)
    assert len(set(made)) == 4096
    assert min(count(made)) >= 320
    assert made[0].startswith(corpus.clauses()[0] + " " + corpus.clauses()[1])
    assert made[4095].startswith(corpus.clauses()[4095] + " " + corpus.clauses()[0])


def test_calls_repeat_the_corpus() -> None:
    assert take_texts("abcde", 3, 4) == ["d", "e", "a", "b"]
    assert take_texts("abcde", 11, 2) == ["b", "c"]
    assert take_texts("abcde", 0, 5) == list("abcde")
    with pytest.raises(ValueError, match="a call of 6 sentences, and there are 5"):
        take_texts("abcde", 0, 6)


def test_the_table_by_clients_has_two_rates() -> None:
    figures = [
        Measurement(
            Point("num_client", value, Setup(workers, 40, 256), 2048, value),
            call_size=2048 // value,
            calls=1,
            total=MedianRange.from_values([100.0 * workers]),
            each=MedianRange.from_values([100.0 * workers / value]),
        )
        for workers in (1, 2)
        for value in (1, 2)
    ]
    table = page.build_table("num_client", figures)
    assert table.header == [
        "num_client", "1 worker, each", "1 worker, sum", "2 workers, each", "2 workers, sum",
        "sentences a call",
    ]  # fmt: skip
    assert table.rows[1] == [
        "2", "50.0 (50.0\N{EN DASH}50.0)", "100 (100\N{EN DASH}100)",
        "100.0 (100.0\N{EN DASH}100.0)", "200 (200\N{EN DASH}200)", "1,024",
    ]  # fmt: skip
    made = page.build_document(figures, {"machine": "m"}, ["4 workers: none"], 3)
    assert made.context["left out"] == "4 workers: none"
    assert "medians of 3 rounds" in made.context["figures"]


def test_the_operations_of_a_network() -> None:
    config = NetworkConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=9, type_vocab_size=2, hidden_act="gelu",
    )  # fmt: skip
    bert = Arithmetic.of_network(config, layers=2)
    # A layer has 4 matrices of 4 x 4, one of 4 x 8 and one of 8 x 4.
    assert bert.parameters == 2 * (64 + 64)
    assert bert.weight_bytes("bfloat16") == 512
    # 5 tokens through two layers; each of 3 x 3 and 2 x 2 pairs: 4 multiplications for its score
    # and 4 for its value.
    assert bert.operations([3, 2]) == 2 * 256 * 5 + 2 * (9 + 4) * (4 + 4) * 2
    gated = replace(config, gated=True, window=(None, 1, None), embedding_size=2)
    local = Arithmetic.of_network(gated, layers=3)
    assert local.parameters == 3 * (64 + 96) + 8
    # In the second layer, 5 tokens attend to 3 tokens each.
    assert local.operations([5]) == 2 * 488 * 5 + 2 * (25 + 15 + 25) * (4 + 4)


def test_the_share_of_a_machine() -> None:
    peak = Peak({"float32": 200e9}, 30e9).better(Peak({"float32": 190e9}, 40e9))
    assert peak == Peak({"float32": 200e9}, 40e9)
    assert peak.share("float32", 50e9) == "50 (25%)"
    assert peak.share("int8", 50e9) == "50"
    assert str(peak) == "products in float32 200 GFLOP/s, reads 40 GB/s"


def test_a_machine_that_cannot_be_measured() -> None:
    with pytest.raises(PeakFailed, match=r"cannot be measured: .*no-such-dtype"):
        measure_peak("cpu", 1, ["no-such-dtype"])


@pytest.mark.parametrize(("is_shared", "gflops"), [(True, "56 (28%)"), (False, "28 (14%)")])
def test_the_table_by_length_has_shares(is_shared: bool, gflops: str) -> None:
    figure = Measurement(
        Point("max_seq_len", 20, Setup(2, 20, 256), 2048, 1),
        call_size=64,
        calls=1,
        total=MedianRange.from_values([1e6]),
        each=MedianRange.from_values([1e6]),
    )
    # 2 * 1000 * 20 operations in the matrices and 2 * 20 * 20 * (10 + 10) in the attention
    network = Arithmetic(layer_parameters=1000, hidden_size=10, reach=(None,))
    speeds = page.Speeds(Peak({"float32": 200e9}, 1e9), network, "float32", is_shared)
    made = page.build_document([figure], {}, [], 3, speeds)
    assert made.tables[0].header[-1] == "GFLOP/s, 2 workers"
    assert made.tables[0].rows[0][-1] == gflops
    assert made.data["figures"][0]["flops_per_device"] == (56e9 if is_shared else 28e9)


def test_the_machine() -> None:
    found = machine.context(["pytest", "no-such-package"])
    assert f"pytest {pytest.__version__}" in found["versions"]
    assert "no-such-package" not in found["versions"]
    assert "cores" in found["machine"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA A, 10 MiB", "NVIDIA B, 20 MiB"]),
        ("1", ["NVIDIA B, 20 MiB"]),
        ("GPU-a,1", ["NVIDIA A, 10 MiB", "NVIDIA B, 20 MiB"]),
        ("-1", []),
    ],
)
def test_the_gpus(
    visible: str | None, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho '0, GPU-a, NVIDIA A, 10 MiB'\necho '1, GPU-b, NVIDIA B, 20 MiB'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == names


def test_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    assert machine.commit() is None
