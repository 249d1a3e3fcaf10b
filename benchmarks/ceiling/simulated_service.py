"""A service whose workers have a simulated model."""

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bertq_cli.service.managed_process import ProcessSpec
from bertq_cli.service.supervisor import Service

#: Numbers in a row: those of BERT base, so that a full chunk has 786,432 bytes.
ROW_NUMBERS = 768
#: Sentences of a full chunk; the time of a device applies to so many.
CHUNK_ROWS = 256

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class SimulatedCase:
    """A simulated service.

    Attributes:
        workers: number of workers.
        batch_ms: time of the device for 256 rows.
        is_float16: whether rows are float16.
        model_dir: model whose tokenizer is used; without it, each word is a token.
    """

    workers: int
    batch_ms: float
    is_float16: bool = False
    model_dir: Path | None = None

    @property
    def description(self) -> str:
        """Differences from the usual case, in words."""
        descriptions = {
            "rows float16": self.is_float16,
            "with a tokenizer": self.model_dir is not None,
        }
        return ", ".join(text for text, applies in descriptions.items() if applies)

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return ROW_NUMBERS * (2 if self.is_float16 else 4)

    def busy_share(self, rows_per_second: float) -> float | None:
        """Return the share of the time that each device works, or None where it takes no time."""
        if not self.batch_ms:
            return None
        return rows_per_second * self.batch_ms / 1000 / CHUNK_ROWS / self.workers


class SimulatedService(Service):
    """Runs workers of ``benchmarks.standin`` instead of real ones."""

    def __init__(self, url: str, case: SimulatedCase) -> None:
        variables = {"BERTQ_MAX_SEQ_LEN": "40"}
        if case.model_dir is not None:
            variables["BERTQ_MODEL_DIR"] = str(case.model_dir)
        queues = [f"gpu{number}" for number in range(case.workers)]
        super().__init__(url, queues, [1] * case.workers, variables)
        self._case = case

    def _worker(self, number: int, queue: str, threads: int) -> ProcessSpec:
        spec = super()._worker(number, queue, threads)
        module = (
            "benchmarks.ceiling.float16_worker" if self._case.is_float16 else "benchmarks.standin"
        )
        options = ["--batch-ms", str(self._case.batch_ms), "--dim", str(ROW_NUMBERS)]
        worker = spec.command[spec.command.index("worker") :]
        environ = {name: v for name, v in spec.environ.items() if name != "BERTQ_MODEL_DIR"}
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return dataclasses.replace(
            spec,
            command=[sys.executable, "-m", module, *options, *worker],
            environ={**environ, **self.variables, "PYTHONPATH": os.pathsep.join(paths)},
        )
