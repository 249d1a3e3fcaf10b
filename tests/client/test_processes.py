"""Clients in more than one process: forks, spawned children, and the end of the interpreter."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from bertq.state import counters
from tests.client.stub import Stub, rows, stub_worker
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]

#: The start of every script: a script that hangs prints its stacks and ends.
PRELUDE = """
import faulthandler, os, signal, sys, threading, time
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(50)
from bertq import BertClient
from bertq.errors import ClientClosed

url = sys.argv[1]

def check(client, texts):
    vectors = client.encode(texts)
    assert vectors[:, 0].tolist() == [len(text) for text in texts], texts
    assert vectors[:, 1].tolist() == [ord(text[0]) for text in texts], texts

def in_child(work):
    child = os.fork()
    if child == 0:
        signal.alarm(50)
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
        os._exit(status)
    return child

def wait_for(children):
    return [os.waitpid(child, 0)[1] for child in children]
"""


def run(script: str, *arguments: str) -> list[str]:
    """Run a script to its end; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + script, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


# -- forks

FORKS_AROUND_THE_FIRST_REQUEST = """
client = BertClient(redis_url=url, timeout=40)
pending = client.encode_async(["of the parent"])  # imports Celery, on a thread
children = []
end = time.monotonic() + 0.4
while time.monotonic() < end or not pending.done() or len(children) < 6:
    number = len(children)
    children.append(in_child(lambda: check(client, [f"child {number}", "x" * number + "y"])))
    time.sleep(float(sys.argv[2]))
assert pending.result().shape == (1, 4)
check(client, ["after"])
print(set(wait_for(children)))
client.close()
"""


@pytest.mark.parametrize("pause", ["0.001", "0.017"])
def test_a_fork_at_any_moment_of_the_first_request(redis_url: str, stub: Stub, pause: str) -> None:
    assert run(FORKS_AROUND_THE_FIRST_REQUEST, redis_url, pause) == ["{0}"]


IMPORTS = """
client = BertClient(redis_url=url.replace("127.0.0.1", "localhost"), timeout=40)
before = set(sys.modules)
check(client, ["first"])
client.encode_async(["b"] * 600).add_done_callback(lambda done: None)
client.encode_async(["cancelled"]).cancel()
client.job(client.submit(["durable"]).id).result()
client.close()
print(sorted(set(sys.modules) - before))
"""


def test_requests_import_no_modules(redis_url: str, stub: Stub) -> None:
    # A fork during an import on another thread leaves its lock locked in the child.
    assert run(IMPORTS, redis_url) == ["[]"]


FORKS_UNDER_LOAD = """
client = BertClient(redis_url=url, timeout=40)
check(client, ["first"])
stop = threading.Event()
done = []

def work(number):
    while not stop.is_set():
        check(client, [f"{number} {'z' * size}" for size in range(1 + 20 * number)])
        done.append(number)

threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
large = client.encode_async(["large " + "l" * (n % 50) for n in range(30_000)])
for thread in threads:
    thread.start()
children = []
for number in range(25):
    children.append(in_child(lambda: check(client, [f"child {number}"] * 20)))
    time.sleep(0.011)
stop.set()
for thread in threads:
    thread.join()
vectors = large.result()
assert vectors[:, 0].tolist() == [6 + n % 50 for n in range(30_000)]
print(set(wait_for(children)), len(set(done)))
client.close()
"""


def test_forks_under_load(redis_url: str, stub: Stub) -> None:
    assert run(FORKS_UNDER_LOAD, redis_url) == ["{0} 6"]


FORK_WITH_PENDING = """
from redis import Redis
client = BertClient(redis_url=url)
pending = [client.encode_async(["of the parent"] * size) for size in (1, 300)]
called = []
pending[0].add_done_callback(lambda done: called.append(os.getpid()))

def child():
    for future in pending:
        try:
            raise AssertionError(future.result(20))
        except ClientClosed as error:
            assert "belongs to the process that was forked" in str(error)
        assert future.done() and not future.cancel()
    new = client.encode_async(["of the child"])
    Redis.from_url(url).set("worker", "wanted")
    assert new.result(40)[0, 0] == len("of the child")
    assert called == []

assert wait_for([in_child(child)]) == [0]
assert [future.result(40).shape for future in pending] == [(1, 4), (300, 4)]
client.encode(["the callback was called before"])
print(called == [os.getpid()])
client.close()
"""


def test_futures_of_the_parent_stay_with_the_parent(redis_url: str, redis: Redis) -> None:
    with ThreadPoolExecutor(1) as pool:
        script = pool.submit(run, FORK_WITH_PENDING, redis_url)
        eventually(lambda: redis.get("worker") or script.done(), 60)
        with stub_worker(redis_url):
            assert script.result() == ["True"]


FORK_WITH_LOCKS_HELD = """
client, closed, closing = [BertClient(redis_url=url, timeout=40) for _ in range(3)]
check(client, ["first"])
closed.close()
no_worker = BertClient(redis_url=url, queue="gpu7")
pending = no_worker.encode_async(["never"])
entered, leave = threading.Event(), threading.Event()

def hold():
    mine, session = client._session, no_worker._session
    with (
        mine._lock, mine.context.registry._lock, mine._callbacks._lock,
        mine.context.redis.connection_pool._lock, closing._session._lock,
        session._lock, session.context.registry._lock, pending._condition, pending._cancel_lock,
    ):
        entered.set()
        leave.wait()

holder = threading.Thread(target=hold)
holder.start()
entered.wait()
closer = threading.Thread(target=closing.close)
closer.start()
while closing._closer.alive:  # it now waits for the lock
    time.sleep(0.001)

def child():
    check(client, ["after"])
    client.close()
    try:
        raise AssertionError(pending.result(20))
    except ClientClosed:
        assert not pending.cancel()
    no_worker.close()
    for client_ in (closed, closing):
        try:
            raise AssertionError(client_.encode(["after"]))
        except ClientClosed:
            client_.close()

children = [in_child(child)]
leave.set()
holder.join()
closer.join()
print(wait_for(children), pending.done())
"""


def test_a_fork_while_other_threads_hold_every_lock(redis_url: str, stub: Stub) -> None:
    assert run(FORK_WITH_LOCKS_HELD, redis_url) == ["[0] False"]


# -- processes of multiprocessing

PROCESSES = """
import multiprocessing
from pathlib import Path

import numpy as np
from bertq import BertClient
from tests.client.stub import rows

def work(url, number):
    with BertClient(redis_url=url, timeout=60) as client:
        for size in (1, 17, 300, 2):
            texts = [f"process {number}: {'x' * (index % 40)}" for index in range(size)]
            np.testing.assert_array_equal(client.encode(texts), rows(texts))

if __name__ == "__main__":
    import sys
    context = multiprocessing.get_context(sys.argv[2])
    processes = [context.Process(target=work, args=(sys.argv[1], n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(80)
    print([process.exitcode for process in processes])
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_threads_and_processes_at_once(
    redis_url: str, stub: Stub, client: BertClient, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    processes = subprocess.Popen(
        [sys.executable, str(script), redis_url, method],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )

    def work(number: int) -> None:
        for size in (1, 20, 300):
            texts = [f"thread {number}: {'y' * (index % 30)}" for index in range(size)]
            np.testing.assert_array_equal(client.encode(texts), rows(texts))

    try:
        with ThreadPoolExecutor(16) as pool:
            rounds = 0
            while rounds < 2 or processes.poll() is None:
                assert list(pool.map(work, range(16))) == [None] * 16
                rounds += 1
        assert processes.communicate(timeout=80)[0] == "[0, 0, 0, 0]\n"
    finally:
        processes.kill()
        processes.wait()


# -- the end of the interpreter

PENDING_AT_THE_END = """
client = BertClient(redis_url=url)
client.encode_async(["never answered"]).add_done_callback(print)
future = client.encode_async(["nor this"])
time.sleep(float(sys.argv[2]))
print("leaving", future.done())
"""


@pytest.mark.parametrize("pause", ["0", "0.1", "1"])
def test_the_interpreter_ends_while_redis_is_hung(silent_url: str, pause: str) -> None:
    assert run(PENDING_AT_THE_END, silent_url, pause)[0] == "leaving False"


@pytest.mark.parametrize("pause", ["0", "0.1", "1"])
def test_the_interpreter_ends_while_redis_is_away(pause: str) -> None:
    assert run(PENDING_AT_THE_END, "redis://127.0.0.1:1/0", pause)[0] == "leaving False"


@pytest.mark.parametrize("pause", ["0", "0.1", "1"])
def test_the_interpreter_ends_with_futures_pending(redis_url: str, pause: str) -> None:
    assert run(PENDING_AT_THE_END, redis_url, pause)[0] == "leaving False"


FORGOTTEN_AT_THE_END = """
def use():
    check(BertClient(redis_url=url), ["a"])
use()
"""


def test_the_interpreter_waits_for_an_unreferenced_client(
    redis_url: str, stub: Stub, redis: Redis
) -> None:
    assert run(FORGOTTEN_AT_THE_END, redis_url) == []
    assert not list(redis.scan_iter("bertq:reply:*"))
    assert counters.read(redis)["num_data_request"] == 1


WAITING_THREAD = """
client = BertClient(redis_url=url)
future = client.encode_async(["never answered"])

def wait():
    try:
        future.result(1)
    except TimeoutError as error:
        print("gave up", flush=True)

threading.Thread(target=wait).start()
"""


@pytest.mark.parametrize("away", [False, True])
def test_the_interpreter_ends_after_a_thread_that_waits(silent_url: str, away: bool) -> None:
    url = "redis://127.0.0.1:1/0" if away else silent_url
    assert run(WAITING_THREAD, url) == ["gave up"]


CLOSED_BY_A_SIGNAL = """
closed = 0
for number in range(150):
    client = BertClient(redis_url=url, timeout=40)
    signal.signal(signal.SIGUSR1, lambda *_: client.close())
    delay = 0.0002 * (number % 50) + 0.0001
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        while True:
            client.encode_async(["a"]).add_done_callback(lambda done: None)
            if number % 2:
                client.encode(["b"])
    except ClientClosed:
        closed += 1
print(closed)
"""


def test_a_signal_handler_may_close_the_client(redis_url: str, stub: Stub) -> None:
    assert run(CLOSED_BY_A_SIGNAL, redis_url) == ["150"]
