"""A Prometheus server over a worker's and a gateway's metrics: every rule and every query works."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from bertq_cli.service.embedded_redis import free_port
from bertq_workers.observability.meter import Meter
from bertq_workers.observability.metrics import WorkerMetrics
from tests.client.stub import Stub, info
from tests.deploy.test_kubernetes import OBJECTS
from tests.deploy.test_monitoring import PANELS, PROMETHEUS, RULES, filled
from tests.gateway.conftest import StartGateway, start_gateway, stub
from tests.waiting import eventually

__all__ = ["start_gateway", "stub"]

KEY = "0123456789abcdef"


class Server:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer."""
        with urlopen(f"{self._url}/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> list[Any]:
        """Return the series that an expression gives now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture
def prometheus(
    redis_url: str, start_gateway: StartGateway, stub: Stub, tmp_path: Path
) -> Iterator[Server]:
    """Prometheus with the project's configuration, for the ports and the key of this test."""
    command = shutil.which("prometheus")
    if command is None:
        pytest.skip("prometheus is not installed")
    worker = WorkerMetrics(Meter(), redis_url)
    worker.info = info(["bertq"])
    ports = {"bertq-worker": free_port()}
    worker.serve("127.0.0.1", ports["bertq-worker"])
    gateway = start_gateway(api_keys=frozenset({KEY}))
    ports["bertq-gateway"] = gateway.port
    gateway.http.headers["Authorization"] = f"Bearer {KEY}"
    assert gateway.embed("a").status_code == 200

    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(tmp_path / "key")
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(PROMETHEUS / "bertq.rules.yml", tmp_path)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                command,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(port)

    def has_two_scrapes() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            counts = server.series("count_over_time(up[1m])")
        except URLError:
            return False
        return len(counts) == 2 and all(int(entry["value"][1]) >= 4 for entry in counts)

    try:
        eventually(has_two_scrapes, 30)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def test_every_rule_and_every_query(prometheus: Server) -> None:
    # A scrape may take longer than its interval on a busy machine.
    eventually(lambda: {entry["value"][1] for entry in prometheus.series("up")} == {"1"}, 30)
    for panel in PANELS:
        for target in panel["targets"]:
            assert prometheus.series(filled(target["expr"])), panel["title"]

    # The queries of the scaler, with a worker that has computed nothing.
    (scaled,) = OBJECTS["keda-prometheus.yaml"]
    for trigger in scaled["spec"]["triggers"]:
        (series,) = prometheus.series(trigger["metadata"]["query"])
        assert float(series["value"][1]) == 0

    def rules() -> list[Any]:
        groups = prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in rules()), 20)
    assert len(rules()) == len(RULES)
    for rule in rules():
        if rule["type"] == "recording":
            assert prometheus.series(rule["name"]), rule["name"]
        else:
            assert rule["state"] == "inactive", rule["name"]
