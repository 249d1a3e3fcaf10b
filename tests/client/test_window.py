"""Bounds on waiting chunks, for a queue and for one client."""

import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.errors import QueueFull, SettingsError, Timeout
from bertq.state import worker_info
from bertq_client.outbox import window
from tests.client.stub import Stub, info, rows, stub_worker
from tests.waiting import eventually

TEXTS = [f"{number} {'x' * (number % 60)}" for number in range(256 * 12)]


def test_a_client_waits_for_space_on_the_queue(redis_url: str, redis: Redis) -> None:
    with BertClient(redis_url=redis_url, timeout=60, max_pending_chunks=4) as client:
        large = client.encode_async(TEXTS)
        others = [client.encode_async(TEXTS[n : n + 20]) for n in range(5)]
        small = client.encode_async(["small"])
        # Those for another queue do not wait.
        eventually(lambda: redis.llen("bertq.small") == 1)
        eventually(lambda: redis.llen("bertq") == 4)
        time.sleep(0.5)
        assert redis.llen("bertq") == 4
        most = Most(redis)
        with stub_worker(redis_url) as stub:
            np.testing.assert_array_equal(large.result(60), rows(TEXTS))
            for n, other in enumerate(others):
                np.testing.assert_array_equal(other.result(60), rows(TEXTS[n : n + 20]))
            np.testing.assert_array_equal(small.result(60), rows(["small"]))
            assert len(stub.chunks) == 12 + 5 + 1
        assert most.stop() <= 4


class Most:
    """The longest that a queue ever is."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.001):
            self._most = max(self._most, int(self._redis.llen("bertq")))

    def stop(self) -> int:
        self._end.set()
        self._thread.join()
        return self._most


def test_chunks_of_other_clients_count(redis_url: str, redis: Redis) -> None:
    with (
        BertClient(redis_url=redis_url, max_pending_chunks=3) as first,
        BertClient(redis_url=redis_url, max_pending_chunks=3) as second,
    ):
        waiting = first.encode_async(TEXTS)
        eventually(lambda: redis.llen("bertq") == 3)
        second.encode_async(TEXTS[:20])  # it cannot know yet
        eventually(lambda: redis.llen("bertq") == 4)
        second._timeout = 1
        late = second.encode_async(TEXTS[:30])
        with pytest.raises(Timeout):
            late.result(20)
        assert redis.llen("bertq") == 4
        waiting.cancel()


def test_a_full_queue_can_be_an_error(redis_url: str, redis: Redis) -> None:
    with BertClient(
        redis_url=redis_url, max_pending_chunks=3, on_full="raise", timeout=60
    ) as client:
        # It has more chunks than may wait, but a request that has begun continues.
        large = client.encode_async(TEXTS)
        eventually(lambda: redis.llen("bertq") == 3)
        with pytest.raises(QueueFull, match=r"3 chunks wait on queue bertq of .*, at most 3 may"):
            client.encode(TEXTS[:20])
        small = client.encode_async(["small"])
        assert len(list(redis.scan_iter("bertq:job:*"))) <= 2
        with stub_worker(redis_url):
            np.testing.assert_array_equal(large.result(60), rows(TEXTS))
            np.testing.assert_array_equal(small.result(60), rows(["small"]))
            np.testing.assert_array_equal(client.encode(TEXTS[:20]), rows(TEXTS[:20]))


def test_the_wait_for_space_is_bounded_by_the_timeout(redis_url: str, redis: Redis) -> None:
    worker_info.publish(redis, info(["bertq"]))
    with BertClient(redis_url=redis_url, max_pending_chunks=2, timeout=0.5) as client:
        client.encode_async(TEXTS).cancel()
        first = client.encode_async(TEXTS)
        eventually(first.done)
        jobs = set(redis.scan_iter("bertq:job:*"))
        assert redis.llen("bertq") == 2
        with pytest.raises(Timeout, match=r"no answer within 0\.5 s: 0 of 1 chunks"):
            client.encode(TEXTS[:20])
        future = client.encode_async(TEXTS[:20])
        future.cancel()
        redis.ltrim("bertq", 0, 0)
        time.sleep(0.2)
        assert redis.llen("bertq") == 1
        assert set(redis.scan_iter("bertq:job:*")) == jobs
        assert client._session.context.registry.pending_chunks("bertq") == 0


def stop_gathering(client: BertClient, stub: Stub) -> threading.Event:
    """Make a client receive no results until the event is set."""
    has_stopped, gate = threading.Event(), threading.Event()

    def block(_: object) -> None:
        has_stopped.set()
        gate.wait(60)

    stub.gate.clear()
    # Not a method of bertq: it runs callbacks on the thread that receives results.
    Future.add_done_callback(client.encode_async(["before"]), block)
    stub.gate.set()
    assert has_stopped.wait(20)
    return gate


def test_results_that_nobody_fetches_are_bounded(redis_url: str, redis: Redis) -> None:
    # The rows of a chunk are so large that 32 chunks may be in flight.
    with (
        stub_worker(redis_url, row_size=512 * 1024) as stub,
        BertClient(redis_url=redis_url, timeout=60) as client,
    ):
        gate = stop_gathering(client, stub)
        future = client.encode_async(TEXTS)
        eventually(lambda: len(stub.chunks) == 1 + 32)
        time.sleep(0.5)
        (stream,) = redis.scan_iter("bertq:reply:*")
        assert redis.xlen(stream) == 1 + 32
        gate.set()
        np.testing.assert_array_equal(future.result(60), rows(TEXTS))
        assert len(stub.chunks) == 1 + len(TEXTS) // 16


def test_a_client_is_closed_while_it_may_send_no_more(redis_url: str) -> None:
    with stub_worker(redis_url, row_size=512 * 1024) as stub:
        others = set(threading.enumerate())
        client = BertClient(redis_url=redis_url, timeout=60)
        gate = stop_gathering(client, stub)
        future = client.encode_async(TEXTS)
        eventually(lambda: len(stub.chunks) == 1 + 32)
        closing = threading.Thread(target=client.close)
        closing.start()
        eventually(future.done)
        gate.set()
        closing.join(20)
        eventually(lambda: set(threading.enumerate()) <= others)


@pytest.mark.parametrize(
    ("workers", "most"),
    [([], 682), ([4], 1024), ([768], 682), ([512 * 1024], 32)],
    ids=["unknown", "narrow", "usual", "token vectors"],
)
def test_wider_rows_allow_fewer_chunks(workers: list[int], most: int) -> None:
    pending = 0

    class Registry:
        def pending_chunks(self, queue: str) -> int:
            return pending

    made = [info(["bertq"]) for _ in workers]
    for worker, size in zip(made, workers, strict=True):
        object.__setattr__(worker, "row_shape", [size])
    bound = window.Window(None, Registry(), 1)  # type: ignore[arg-type]
    pending = most - 1
    assert bound.client_has_capacity("bertq", made)
    pending = most
    assert not bound.client_has_capacity("bertq", made)


def test_settings(redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="on_full is 'drop': it must be 'wait' or 'raise'"):
        BertClient(redis_url=redis_url, on_full="drop")  # type: ignore[call-overload]
    for wrong in (0, -1, 1.5, True, "many"):
        with pytest.raises(SettingsError, match=f"max_pending_chunks is {wrong!r}: it must be"):
            BertClient(redis_url=redis_url, max_pending_chunks=wrong)  # type: ignore[arg-type]
    monkeypatch.setenv("BERTQ_MAX_PENDING_CHUNKS", "none")
    with pytest.raises(SettingsError, match="BERTQ_MAX_PENDING_CHUNKS is 'none': it must be"):
        BertClient(redis_url=redis_url)
    monkeypatch.setenv("BERTQ_MAX_PENDING_CHUNKS", "2")
    with BertClient(redis_url=redis_url) as client:
        future = client.encode_async(TEXTS)
        eventually(lambda: redis.llen("bertq") == 2)
        time.sleep(0.2)
        assert redis.llen("bertq") == 2
        future.cancel()
