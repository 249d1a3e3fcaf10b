"""The stand-in of ``benchmarks.standin``, with rows in float16: half the bytes on the wire."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import standin


class Float16Model(standin.SimulatedModel):
    """A simulated model with float16 rows."""

    def blank(self, lengths: Sequence[int]) -> Any:
        """Return zeros for the rows."""
        return super().blank(lengths).astype(np.float16)

    def run(self, ids: Sequence[Sequence[int]]) -> Any:
        """Wait as long as the device, and return rows."""
        return super().run(ids).astype(np.float16)


if __name__ == "__main__":
    standin.SimulatedModel = Float16Model  # type: ignore[misc]  # the class that it builds
    standin.main()
