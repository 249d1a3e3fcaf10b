"""Scrapes of a worker's metrics."""

import time
from collections.abc import Mapping
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import WorkerProcess
from tests.waiting import eventually

Labels = frozenset[tuple[str, str]]


def page(port: int) -> str:
    """The text of a scrape; at most 5 s."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: bytes = answer.read()
    return text.decode()


class Scrape:
    """The numbers of a scrape, by their names and labels."""

    def __init__(self, port: int) -> None:
        began = time.monotonic()
        self.text = page(port)
        self.seconds = time.monotonic() - began
        self.names: set[str] = set()
        self._values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(self.text):
            self.names.add(family.name)
            for sample in family.samples:
                self._values[sample.name, frozenset(sample.labels.items())] = sample.value

    def __getitem__(self, name: str) -> float:
        return self.get(name)

    def get(self, name: str, **labels: str) -> float:
        """A metric of bertq."""
        return self._values[f"bertq_worker_{name}", frozenset(labels.items())]

    def labels(self, name: str) -> list[Mapping[str, str]]:
        """The labels of all metrics of bertq that have this name."""
        wanted = f"bertq_worker_{name}"
        return [dict(labels) for found, labels in self._values if found == wanted]


def scrape_after_results(port: int, chunks: int, worker: WorkerProcess) -> Scrape:
    """Return a scrape after the results of ``chunks`` chunks are stored, which is counted last."""

    def stored() -> bool:
        assert worker.process.poll() is None, worker.log
        return Scrape(port)["store_seconds_count"] >= chunks

    eventually(stored, 20)
    return Scrape(port)
