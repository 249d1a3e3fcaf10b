import numpy as np
import pytest

from bertq_bert.batches import Budget


def test_batches_hold_every_row_once_and_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 512, 1000)
    budget = Budget(rows=64, tokens=4096, scores=2**20)
    batches = budget.split(lengths.tolist())
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert max(len(batch) for batch in batches) == 64
    for batch in batches:
        longest = int(lengths[batch].max())
        assert len(batch) == 1 or len(batch) * longest**2 <= 2**20
        assert len(batch) == 1 or lengths[batch].sum() <= 4096
    tops = [int(lengths[batch].max()) for batch in batches]
    assert tops == sorted(tops)


@pytest.mark.parametrize(
    ("budget", "lengths", "sizes"),
    [
        (Budget(256, 10**6, 2**23), [512, *[5] * 255], [255, 1]),
        (Budget(256, 10**6, 2**23), [512] * 256, [32] * 8),
        (Budget(256, 1024, 2**23), [512] * 4, [2, 2]),
        (Budget(3, 10**6, 2**23), [5] * 7, [3, 3, 1]),
        (Budget(1, 1, 1), [7, 7], [1, 1]),
        (Budget(256, 1024, 2**23), [], []),
    ],
)
def test_each_limit_holds(budget: Budget, lengths: list[int], sizes: list[int]) -> None:
    assert [len(batch) for batch in budget.split(lengths)] == sizes


def test_fits() -> None:
    budget = Budget(rows=4, tokens=100, scores=1000)
    assert budget.fits(4, 60, 15)
    assert not budget.fits(5, 60, 12)
    assert not budget.fits(4, 101, 5)
    assert not budget.fits(4, 64, 16)
    assert budget.fits(1, 512, 512), "a single row always fits"
