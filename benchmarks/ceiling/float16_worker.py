"""The stand-in of ``benchmarks.standin``, with rows in float16: half the bytes on the wire."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import standin


class Float16Model(standin.Clock):
    """A clock that shows float16."""

    def blank(self, lengths: Sequence[int]) -> Any:
        """Zeros for so many rows."""
        return super().blank(lengths).astype(np.float16)

    def run(self, ids: Sequence[Sequence[int]]) -> Any:
        """Wait as the device would, and return rows of ones."""
        return super().run(ids).astype(np.float16)


if __name__ == "__main__":
    standin.Clock = Float16Model  # type: ignore[misc]  # what it builds
    standin.main()
