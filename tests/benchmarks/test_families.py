"""The comparison of families: its page shows which one is faster, and by how much."""

import pytest

from benchmarks.families import build_document
from benchmarks.peers.comparison import Comparison
from benchmarks.peers.random_models import SHAPES
from bertq_cli.bench.timing import MedianRange


def comparison() -> Comparison:
    """One in which bertq does 200 sentences a second, and its peer half of them."""
    found = Comparison()
    for peer, speed, wait in (("own", 200.0, 5.0), ("sbert", 100.0, 20.0)):
        for variant in ("float32", "bfloat16"):
            found.speeds[peer, variant] = MedianRange.from_values([speed, speed, speed])
            found.waits[peer, variant] = {1: [wait] * 4}
            found.agreement[peer, variant] = "1e-07"
    return found


def test_the_ratios() -> None:
    page = build_document({"BERT-base": comparison()}, {"machine": "this"}).markdown()
    (row,) = [line for line in page.splitlines() if line.startswith("| BERT-base, float32")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3] == "2.00"  # 200 / 100 sentences a second
    assert cells[6] == "4.00"  # 20 / 5 ms


@pytest.mark.parametrize("shape", ["BERT-base", "XLM-R-base", "MPNet-base", "ModernBERT-base"])
def test_the_shapes_are_there(shape: str) -> None:
    assert shape in SHAPES
