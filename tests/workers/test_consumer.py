"""The parts of celery's consumer that ours replaces must still exist."""

import inspect
from typing import Any

import pytest
from celery.events.dispatcher import EventDispatcher
from celery.worker import control
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu import Connection

from bertq.config.celery_config import configuration
from bertq_workers.celery_compat.consumer import Consumer

REPLACED = ["on_unknown_message", "on_unknown_task", "on_invalid_task", "on_decode_error"]


@pytest.mark.parametrize("name", REPLACED)
def test_celery_still_logs_bodies_in_the_replaced_functions(name: str) -> None:
    stock = getattr(CeleryConsumer, name)
    assert list(inspect.signature(stock).parameters) == list(
        inspect.signature(getattr(Consumer, name)).parameters
    )
    assert "dump_body" in inspect.getsource(stock) or "_message_report" in inspect.getsource(stock)


def test_no_other_place_of_the_consumer_logs_bodies() -> None:
    source = inspect.getsource(CeleryConsumer)
    # One in each of three methods, and one in the report that the fourth makes.
    assert source.count("dump_body(") == 4
    assert source.count("self._message_report(") == 1


def test_celery_still_uses_the_replaced_functions() -> None:
    stock: Any = CeleryConsumer
    remote: Any = control
    assert "_flush_events_promise" in inspect.getsource(stock.on_send_event_buffered)
    assert "len(buf) >= self.buffer_limit" in inspect.getsource(EventDispatcher.send)
    assert "self.connection_for_read(heartbeat=" in inspect.getsource(stock.connect)
    assert "state.consumer.add_task_queue," in inspect.getsource(remote.add_consumer)
    assert "state.consumer.cancel_task_queue," in inspect.getsource(remote.cancel_consumer)
    assert "self.blueprint.shutdown(self)" in inspect.getsource(stock.shutdown)
    assert "get_transport_cls()(client=self)" in inspect.getsource(Connection)


def test_a_message_is_acknowledged_at_once() -> None:
    # The loop runs callbacks of call_soon before it waits, but not those that they add:
    # the transport would not be able to batch commands there.
    assert "call_soon_ack,\n" in inspect.getsource(CeleryConsumer.create_task_handler)
    called: list[tuple[int, str]] = []
    consumer: Any = Consumer.__new__(Consumer)
    consumer.call_soon_ack(lambda number, *, name: called.append((number, name)), 1, name="a")
    assert called == [(1, "a")]


def test_workers_use_it() -> None:
    assert (
        configuration("redis://h/0")["worker_consumer"]
        == "bertq_workers.celery_compat.consumer:Consumer"
    )
