"""The pool: threads, order of callbacks, and the parts of Celery on which it relies."""

import importlib
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.concurrency.base import BasePool
from celery.exceptions import WorkerLostError
from celery.worker import state
from kombu.asynchronous import Hub

from bertq.config.celery_config import configuration
from bertq_bert.batches import Budget
from bertq_workers.celery_compat.pool import ChunkPool
from tests.waiting import eventually


@pytest.fixture
def pool() -> Iterator[ChunkPool]:
    made = ChunkPool(1)
    made.capacity.set_limits(Budget(256, 4096, 2**30), 1)
    made.start()
    yield made
    made.on_terminate()


@pytest.fixture(autouse=True)
def _audible(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "bertq.worker")


def chunk_threads() -> list[threading.Thread]:
    """The threads of pools in this process."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("bertq-chunk")]


class Calls:
    """Notes callbacks and the threads that they came on."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Any]] = []
        self.threads: set[int] = set()

    def note(self, name: str) -> Callable[..., None]:
        def callback(*args: Any) -> None:
            self.threads.add(threading.get_ident())
            self.received.append((name, args[0] if args else None))

        return callback

    def apply(self, pool: ChunkPool, body: Callable[[], Any], rows: int = 1, tag: str = "") -> Any:
        """Give a body to the pool, as a request does."""
        texts = ["a"] * rows
        info = {
            "args": [texts], "delivery_info": {"routing_key": "bertq"}, "body_bytes": rows
        }  # fmt: skip
        return pool.apply_async(
            lambda *_: body(),
            args=("bertq.encode", "id", info, None, None, None),
            callback=self.note(f"done{tag}"),
            accept_callback=self.note(f"accepted{tag}"),
            error_callback=self.note(f"failed{tag}"),
            timeout_callback=None,
            soft_timeout=None,
            timeout=None,
            correlation_id="id",
        )


@pytest.fixture
def calls() -> Calls:
    return Calls()


def turn(pool: ChunkPool, condition: Callable[[], object]) -> None:
    """Run an event loop as Celery's until something has happened."""
    hub = Hub()
    try:
        pool.register_with_event_loop(hub)
        give_up = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < give_up
            hub.run_once()
    finally:
        hub.close()


def test_bodies_run_in_threads_callbacks_where_the_loop_runs(pool: ChunkPool, calls: Calls) -> None:
    bodies: set[int] = set()
    both = threading.Barrier(2)

    def body() -> int:
        both.wait(10)  # they run at the same time
        bodies.add(threading.get_ident())
        return 7

    for _ in range(2):
        calls.apply(pool, body)
    turn(pool, lambda: len(calls.received) == 4)
    assert calls.received == [("accepted", os.getpid())] * 2 + [("done", 7)] * 2
    assert calls.threads == {threading.get_ident()}
    assert len(bodies) == 2
    assert threading.get_ident() not in bodies
    assert all(thread.daemon for thread in chunk_threads())


def test_callbacks_come_in_the_order_in_which_the_bodies_ended(
    pool: ChunkPool, calls: Calls
) -> None:
    gates = [threading.Event() for _ in range(20)]
    for number, gate in enumerate(gates):
        calls.apply(pool, gate.wait, tag=str(number))
    order = [7, 3, *[n for n in range(20) if n not in (3, 7)]]
    for count, number in enumerate(order, 1):
        gates[number].set()
        # Each has ended before the next begins.
        eventually(lambda count=count: pool.info["unreported"] == count)  # type: ignore[misc]
    del calls.received[:]
    turn(pool, lambda: len(calls.received) == 20)
    assert [name for name, _ in calls.received] == [f"done{number}" for number in order]


def test_the_last_used_thread_is_used_again(pool: ChunkPool, calls: Calls) -> None:
    both, used = threading.Barrier(2), set[int]()
    for _ in range(2):
        calls.apply(pool, lambda: both.wait(10))
    for count in range(2, 7):
        turn(pool, lambda count=count: len(calls.received) == 2 * count)  # type: ignore[misc]
        calls.apply(pool, lambda: used.add(threading.get_ident()))
    turn(pool, lambda: len(calls.received) == 14)
    assert pool.info["threads"] == 2
    assert len(used) == 1


def test_rows_and_bytes_are_counted_in_and_out(pool: ChunkPool, calls: Calls) -> None:
    gate = threading.Event()
    for rows in (256, 200, 1):
        calls.apply(pool, gate.wait, rows)
    assert (pool.capacity.large.rows, pool.capacity.large.chunks) == (457, 3)
    assert (pool.info["rows"], pool.info["chunks"], pool.info["bytes"]) == (457, 3, 457)
    gate.set()
    turn(pool, lambda: len(calls.received) == 6)
    assert (pool.capacity.rows, pool.capacity.chunks, pool.capacity.bytes) == (0, 0, 0)


@pytest.mark.parametrize("args", [(), ("n", "i", {}), ("n", "i", {"args": [5]}), ("n", "i", None)])
def test_a_message_that_is_not_a_chunk_counts_as_one_row(pool: ChunkPool, args: Any) -> None:
    done: list[Any] = []
    pool.apply_async(lambda *_: None, args=args, callback=done.append)
    assert (pool.capacity.large.rows, pool.capacity.large.chunks) == (1, 1)
    turn(pool, lambda: done)
    assert pool.capacity.large.chunks == 0


class FailingRequest:
    """A request as Celery's, with callbacks that raise."""

    def __init__(self, *, is_redelivered: bool = False) -> None:
        self.delivery_info = {"redelivered": is_redelivered}
        self.rejected: list[bool] = []

    def on_success(self, _: Any) -> None:
        raise ConnectionError("it quotes a secret")

    def reject(self, requeue: bool) -> None:
        self.rejected.append(requeue)


@pytest.mark.parametrize("is_redelivered", [False, True])
def test_the_message_of_a_failing_callback_is_returned_once(
    pool: ChunkPool, calls: Calls, caplog: pytest.LogCaptureFixture, is_redelivered: bool
) -> None:
    request = FailingRequest(is_redelivered=is_redelivered)
    pool.apply_async(lambda: None, callback=request.on_success)
    calls.apply(pool, lambda: 1)
    turn(pool, lambda: calls.received[-1:] == [("done", 1)] and not pool.capacity.chunks)
    assert request.rejected == [not is_redelivered]
    assert pool.capacity.chunks == 0
    assert "the end of a chunk could not be reported: ConnectionError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (ValueError("a"), ValueError),
        (MemoryError(), WorkerLostError),
        (SystemExit(3), WorkerLostError),
        (KeyboardInterrupt(), WorkerLostError),
    ],
)
def test_an_error_outside_of_the_tasks_body(
    pool: ChunkPool, calls: Calls, error: BaseException, reported: type[Exception]
) -> None:
    def body() -> None:
        raise error

    calls.apply(pool, body)
    turn(pool, lambda: len(calls.received) == 2)
    name, info = calls.received[-1]
    assert name == "failed"
    assert info.type is reported
    calls.apply(pool, lambda: 1)
    turn(pool, lambda: len(calls.received) == 4)


def test_a_terminated_chunk_calls_no_callback(pool: ChunkPool, calls: Calls) -> None:
    gate = threading.Event()
    job = calls.apply(pool, gate.wait, 100)
    pool.terminate_job(os.getpid(), 15)
    job.terminate(15)
    gate.set()
    calls.apply(pool, lambda: 1, tag=" after")
    turn(pool, lambda: len(calls.received) == 3 and not pool.capacity.chunks)
    assert [name for name, _ in calls.received] == ["accepted", "accepted after", "done after"]
    assert pool.capacity.large.rows == 0


def test_stopping_waits_for_what_is_in_the_pool(pool: ChunkPool, calls: Calls) -> None:
    gate = threading.Event()
    for _ in range(3):
        calls.apply(pool, gate.wait)
    threading.Timer(0.2, gate.set).start()
    pool.stop()
    assert [name for name, _ in calls.received] == ["accepted"] * 3 + ["done"] * 3
    eventually(lambda: not chunk_threads())
    late = calls.apply(pool, lambda: 1)  # delivered while the channel is closed
    assert late.dropped
    assert len(calls.received) == 6


def test_a_cold_stop_does_not_wait(
    pool: ChunkPool, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    calls.apply(pool, gate.wait, tag=" busy")
    calls.apply(pool, lambda: 1, tag=" idle")
    eventually(lambda: pool.info["unreported"] == 1)
    monkeypatch.setattr(state, "should_terminate", True)
    pool.stop()
    pool.terminate()
    # Finished chunks are reported, so that they are not encoded again.
    assert [name for name, _ in calls.received] == ["accepted busy", "accepted idle", "done idle"]
    gate.set()


def test_a_cold_stop_ends_the_wait_of_a_warm_one(
    pool: ChunkPool, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    calls.apply(pool, gate.wait)

    def interrupt() -> None:
        monkeypatch.setattr(state, "should_terminate", True)
        pool.stop()

    threading.Timer(0.2, interrupt).start()
    pool.stop()
    assert [name for name, _ in calls.received] == ["accepted"]
    gate.set()


def test_the_event_loop_may_be_replaced(pool: ChunkPool, calls: Calls) -> None:
    for count in range(1, 4):
        gate = threading.Event()
        calls.apply(pool, gate.wait)
        gate.set()
        eventually(lambda: pool.info["unreported"])  # between two connections there is no listener
        turn(pool, lambda count=count: len(calls.received) == 2 * count)  # type: ignore[misc]
    assert [name for name, _ in calls.received] == ["accepted", "done"] * 3


def test_it_is_the_pool_of_plain_workers() -> None:
    assert (
        configuration("redis://h/0")["worker_pool"] == "bertq_workers.celery_compat.pool:ChunkPool"
    )
    assert issubclass(ChunkPool, BasePool)


def test_celery_still_calls_the_pool_as_it_did() -> None:
    request: Any = importlib.import_module("celery.worker.request")
    program: Any = importlib.import_module("celery.apps.worker")
    components: Any = importlib.import_module("celery.worker.components")
    applied = inspect.getsource(request.create_request_cls)
    assert "args=(self.type, task_id, self.request_dict, self.body," in applied
    for name in (
        "accept_callback=self.on_acc",
        "callback=self.on_succ",
        "error_callback=self.on_f",
    ):
        assert name in applied
    rejected = inspect.getsource(request.Request.reject)
    assert "if not self.acknowledged:" in rejected
    assert "self._on_reject(logger, self._connection_errors, requeue)" in rejected
    # The arguments of the pool contain the texts and the queue of a chunk.
    made = inspect.getsource(request.Request.__init__)
    assert "self._request_dict['args'], self._request_dict['kwargs'], _ = self.__payload" in made
    assert "'routing_key': delivery_info.get('routing_key')" in made
    cold = inspect.getsource(program.on_cold_shutdown)
    assert cold.index("cancel_active_requests()") < cold.index("state.should_terminate = True")
    assert cold.index("state.should_terminate = True") < cold.index("pool.stop()")
    assert "w.pool.register_with_event_loop(hub)" in inspect.getsource(components)
