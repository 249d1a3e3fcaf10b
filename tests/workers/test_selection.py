"""The node name and the queues of a worker, with Celery's table of queues."""

import inspect
import os
from dataclasses import dataclass
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.worker import worker as command
from celery.utils.nodenames import default_nodename, gethostname
from celery.worker import WorkController

from bertq.errors import SettingsError
from bertq.protocol.queues import Device, of_model
from bertq_workers.startup import selection
from tests.apps import create_app


@dataclass
class Worker:
    """The attributes of Celery's worker that are read."""

    app: Celery
    hostname: str


def start(take: list[str], exclude: list[str]) -> tuple[Worker, click.Context]:
    """A worker with -Q and -X, and its command line."""
    app = create_app("redis://127.0.0.1:1/0")
    app.amqp.queues.select(take)
    app.amqp.queues.deselect(exclude)
    context = click.Context(click.Command("worker"))
    context.params = {"queues": take, "exclude_queues": exclude}
    return Worker(app, default_nodename("")), context


def taken(model: str | None, take: list[str], exclude: list[str]) -> tuple[set[str], Device | None]:
    """The queues and the device of a worker."""
    worker, context = start(take, exclude)
    with context:
        device = selection.select_queues(worker, of_model(model))
    return set(worker.app.amqp.queues.consume_from), device


CPU, GPU = Device("cpu", 1), Device("gpu", 0)


@pytest.mark.parametrize(
    ("model", "take", "exclude", "expected", "device"),
    [
        (None, [], [], {"bertq", "bertq.small"}, None),
        (None, [], ["bertq"], {"bertq.small"}, None),
        (None, ["bertq"], [], {"bertq"}, None),
        (None, ["gpu0"], [], {"bertq", "bertq.small", "gpu0"}, GPU),
        (None, ["cpu1"], ["bertq", "bertq.small"], {"cpu1"}, CPU),
        ("a", [], [], {"bertq.a", "bertq.a.small"}, None),
        ("a", [], ["bertq.a.small"], {"bertq.a"}, None),
        ("a", ["bertq.a"], [], {"bertq.a"}, None),
        ("a", ["gpu0"], [], {"bertq.a", "bertq.a.small", "bertq.a.gpu0"}, GPU),
        ("a", ["bertq.a.gpu0"], [], {"bertq.a", "bertq.a.small", "bertq.a.gpu0"}, GPU),
        ("a", ["cpu1"], ["bertq.a", "bertq.a.small"], {"bertq.a.cpu1"}, CPU),
    ],
)
def test_the_queues_that_it_takes_from(
    model: str | None, take: list[str], exclude: list[str], expected: set[str], device: Any
) -> None:
    assert taken(model, take, exclude) == (expected, device)


@pytest.mark.parametrize(
    ("model", "take", "exclude", "reason"),
    [
        (None, ["bertq.a"], [], "bertq.a belongs to model a, not to the model without a name"),
        ("a", ["bertq"], [], "bertq belongs to the model without a name, not to model a"),
        ("a", ["bertq.b.gpu0"], [], "bertq.b.gpu0 belongs to model b, not to model a"),
        ("a", [], ["bertq"], "bertq belongs to the model without a name, not to model a"),
        ("a", ["gpux"], [], "no queue is named 'gpux'"),
        (None, [], ["bretq"], "no queue is named 'bretq'"),
        ("a", ["gpu0", "bertq.a.gpu1"], [], "one device, not on gpu0, gpu1"),
        (None, ["cpu0"], ["cpu0"], "-X leaves no queue"),
        ("a", ["cpu0"], ["bertq.a.cpu0"], "-X leaves no queue"),
        ("a", [], ["bertq.a", "bertq.a.small"], "-X leaves no queue"),
    ],
)
def test_unknown_queues_are_refused(
    model: str | None, take: list[str], exclude: list[str], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        taken(model, take, exclude)


def test_celery_still_has_the_attributes_that_are_read() -> None:
    names = {option.name for option in command.params}
    assert {"queues", "exclude_queues", "hostname"} <= names
    source = inspect.getsource(WorkController)
    assert "self.hostname = default_nodename(hostname)" in source
    selected, made = source.index("self.setup_queues("), source.index("self.blueprint.apply(")
    assert selected < made  # the step that selects once more is of the blueprint


@pytest.mark.parametrize(
    ("model", "take", "name"),
    [
        (None, [], "bertq-PID"),
        (None, ["bertq", "gpu0"], "gpu0"),
        ("a-1", [], "bertq.a-1-PID"),
        ("a-1", ["gpu0"], "gpu0-a-1"),
        ("a-1", ["bertq.a-1.cpu2"], "cpu2-a-1"),
    ],
)
def test_the_node_name(
    model: str | None, take: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BERTQ_MODEL_NAME", raising=False)
    worker, context = start(take, [])
    with context:
        selection.name_node(worker, {"model_name": model})
    assert worker.hostname == f"{name.replace('PID', str(os.getpid()))}@{gethostname()}"


def test_a_name_that_the_user_gave_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTQ_MODEL_NAME", "a.b")
    worker, context = start(["gpu0"], [])
    with context:
        selection.name_node(worker, {})
        assert worker.hostname == default_nodename("")  # it will be refused, and not for its name
        worker.hostname = "mine@here"
        selection.name_node(worker, {"model_name": "a"})
    assert worker.hostname == "mine@here"
