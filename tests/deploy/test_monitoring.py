"""The Prometheus files and the Grafana dashboard, over the metrics that are really exported."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bertq.config.settings import Settings
from bertq.state.health import MAX_BATCH_SECONDS
from bertq_client.outbox.window import MAX_PENDING_CHUNKS
from bertq_gateway.config import Config
from bertq_gateway.metrics import GatewayMetrics
from bertq_workers.observability.meter import Meter
from bertq_workers.observability.metrics import WorkerMetrics
from tests.client.stub import info

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES_FILE = PROMETHEUS / "bertq.rules.yml"
RULES = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule["expr"] for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((DEPLOY / "grafana" / "bertq.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]

#: Names in an expression that look like those of metrics.
_METRIC = re.compile(r"\b(?:bertq|process|python)_\w+|\bup\b")
_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
    "gauge": ("",),
}


@pytest.fixture(scope="module")
def exported(module_redis_url: str) -> set[str]:
    """The names of all series of a worker and of a gateway."""
    worker = WorkerMetrics(Meter(), module_redis_url)
    worker.info = info(["bertq"])
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(worker)
    text = generate_latest(registry).decode() + GatewayMetrics().text().decode()
    return {
        family.name + suffix
        for family in text_string_to_metric_families(text)
        for suffix in _SUFFIXES[family.type]
    }


def promtool(*arguments: str | Path) -> None:
    """Run Prometheus' own checks."""
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("promtool is not installed (it comes with Prometheus)")
    done = subprocess.run(
        [command, *map(str, arguments)], cwd=PROMETHEUS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def metrics(expression: str) -> set[str]:
    """Return the names of metrics in an expression, without those that rules record."""
    plain = re.sub(r'"[^"]*"', "", expression)  # values of labels
    for name in RECORDED:
        plain = plain.replace(name, "")
    return set(_METRIC.findall(plain))


def test_every_metric_is_exported(exported: set[str]) -> None:
    used = set[str]()
    for expression in [*RECORDED.values(), *ALERTS.values(), *QUERIES]:
        found = metrics(expression)
        assert found or any(name in expression for name in RECORDED), expression
        used |= found
    assert used - {"up"} <= exported


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", RULES_FILE)


def test_the_rules_do_what_their_tests_say() -> None:
    promtool("test", "rules", PROMETHEUS / "bertq.rules.test.yml")


def test_every_rule_has_a_test() -> None:
    text = (PROMETHEUS / "bertq.rules.test.yml").read_text()
    for name in RECORDED:
        assert f"- expr: {name}" in text
    for name in ALERTS:
        assert f"- alertname: {name}\n" in text


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-kubernetes.yml"])
def test_promtool_accepts_the_configurations(name: str, tmp_path: Path) -> None:
    # Debian's Prometheus is built without the discovery of pods.
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)
    assert config["rule_files"] == [RULES_FILE.name]
    shutil.copy(RULES_FILE, tmp_path)
    (tmp_path / name).write_text(yaml.safe_dump(config))
    promtool("check", "config", "--syntax-only", tmp_path / name)
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert set(re.findall(r'job="([^"]+)"', " ".join(ALERTS.values()))) <= jobs


def test_limits_are_those_of_the_code() -> None:
    assert f"> {MAX_BATCH_SECONDS:g}" in ALERTS["BertqBatchHangs"]
    text = RULES_FILE.read_text()
    assert f"({Settings.read({}, {}).batch_timeout:g} s)" in text
    assert f"At {MAX_PENDING_CHUNKS:,} (BERTQ_MAX_PENDING_CHUNKS)" in text
    panels = json.dumps(DASHBOARD)
    assert f"At {Config(redis_url='').max_requests} (--max-requests)" in panels
    assert f"At {MAX_PENDING_CHUNKS:,} on one queue" in panels


# The dashboard


def test_panels_are_in_their_places() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))


def _sources(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "datasource" in value:
            yield value["datasource"]
        for item in value.values():
            yield from _sources(item)
    elif isinstance(value, list):
        for item in value:
            yield from _sources(item)


def test_the_dashboard_fits_any_grafana() -> None:
    variables = {entry["name"] for entry in DASHBOARD["templating"]["list"]}
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert all(found == source for found in _sources(DASHBOARD))
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used - {"__rate_interval"} == variables
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]


def test_promtool_accepts_the_queries(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": filled(query)} for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", path)


def filled(query: str) -> str:
    """Return a query as Grafana sends it."""
    return query.replace("$__rate_interval", "1m").replace("$job", ".+")
