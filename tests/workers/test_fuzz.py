"""Generated messages on the queues of a real worker: each comes to a line in its log, no more."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from bertq import BertClient
from bertq.protocol import queues
from bertq_client.outbox.message import MessageBuilder
from tests import records
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker, Start

#: Hypothesis does not shrink failing examples: all of them reach the same worker, which earlier
#: messages have changed.
FUZZ = settings(phases=[Phase.generate])

#: In every text, and in nothing that a log may show.
SECRET = "a glockenspiel"

#: A job whose chunks are encoded, so that some messages fail late.
JOB, CHUNKS = "fuzz", 1000

#: The line of a worker for a message.
LOGGED = re.compile(r"refused a message of|chunk \S+: (?:failed, |rejected, |dropped, |\d+ rows, )")

Change = Callable[[Any], Any]

TEXTS = st.sampled_from(["", SECRET, "\ud800", "\0", "bertq", "1", "utf-16", "gzip", "x" * 5000])
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**64, 10**400, 0.5, -0.0, 1e999, float("nan")])
DATES = st.sampled_from(["2999-01-01T00:00:00", "1999-01-01", "9999-12-31T23:59:59+14:00", "now"])
TYPED = st.builds(
    lambda name, value: {"__type__": name, "__value__": value},
    st.sampled_from(["bytes", "base64", "datetime", "decimal", "uuid", "set"]),
    st.sampled_from([SECRET, {"hex": SECRET}, 5, None]),
)
#: Any JSON, of kinds that some field could be mistaken for.
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS | DATES | TYPED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
TASKS = st.sampled_from(
    ["celery.map", "celery.chord_unlock", "celery.chain", "celery.backend_cleanup", SECRET, "\n"]
)

HEADERS = [
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries",
    "timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result",
    "replaced_task_nesting", "stamped_headers", "stamps", "wire", "sent",
    # Not headers of a chunk, but attributes of Celery's request.
    "compression", "chord", "chain", "callbacks", "errbacks", "called_directly", "get", "update",
    "redelivered", "delivery_info", "reply_to", "headers", "is_eager", "args", "_children",
]  # fmt: skip
PROPERTIES = [
    "correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "body_encoding",
    "delivery_tag", "type",
]  # fmt: skip
PATHS = [
    *[(name,) for name in ("body", "content-type", "content-encoding", "headers", "properties")],
    *[("headers", name) for name in HEADERS],
    *[("properties", name) for name in PROPERTIES],
    *[
        ("properties", "delivery_info", name)
        for name in ("exchange", "routing_key", "redelivered", "consumer_tag")
    ],
]
#: Within the body: arguments, keyword arguments, and the options that Celery adds.
BODY_PATHS = [
    *[(0,), (1,), (2,), (0, 0), (0, 1), (0, 0, 0), (0, 0, 1), (1, "texts"), (1, "self")],
    *[(2, name) for name in ("callbacks", "errbacks", "chain", "chord", "id", "reply_to", "wire")],
]


def changed(document: Any, path: tuple[Any, ...], value: Any, remove: bool) -> None:
    """Replace, add or remove the value at a path, if the path exists."""
    for step in path[:-1]:
        try:
            document = document[step]
        except (LookupError, TypeError):
            return
    if remove and isinstance(document, dict):
        document.pop(path[-1], None)
    elif isinstance(document, dict):
        document[path[-1]] = value
    elif isinstance(document, list) and isinstance(path[-1], int):
        document[path[-1] :] = [] if remove else [value, *document[path[-1] + 1 :]]


def packed(body: Any) -> str:
    """A message's body as kombu writes it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return base64.b64encode(raw).decode()


CHANGES = st.tuples(st.sampled_from(PATHS), JUNK, st.booleans())
BODY_CHANGES = st.tuples(st.sampled_from(BODY_PATHS), JUNK, st.booleans())
BODIES = st.one_of(
    st.binary(max_size=20),
    JUNK,
    st.just(b"[" * 100_000),
    st.fixed_dictionaries(
        {"task": TASKS | st.just("bertq.encode"), "id": st.just("fuzz-1")},
        optional={"args": JUNK, "kwargs": JUNK, "eta": DATES, "expires": DATES, "utc": JUNK},
    ),
)


@st.composite
def near_messages(draw: Any) -> bytes:
    """A chunk's message in which something is different."""
    task_id = f"{JOB}-{draw(st.integers(0, CHUNKS + 100))}"
    # Replies to the job itself are those of a durable job.
    builder = MessageBuilder(draw(st.sampled_from(["fuzzer", "fuzzer", JOB])))
    message = json.loads(builder.build(task_id, [SECRET] * 3, "bertq"))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        message["body"] = packed(draw(BODIES))
    elif kind == 1:
        message["headers"]["task"] = draw(TASKS)
    elif kind < 4:
        body = json.loads(base64.b64decode(message["body"]))
        for path, value, remove in draw(st.lists(BODY_CHANGES, min_size=1, max_size=2)):
            changed(body, path, value, remove)
        message["body"] = packed(body)
    if kind == 0 or kind > 3:
        for path, value, remove in draw(st.lists(CHANGES, min_size=1, max_size=2)):
            changed(message, path, value, remove)
    text = json.dumps(message)
    return text.encode(draw(st.sampled_from(["utf-8"] * 20 + ["utf-16"])))


FAR_MESSAGES = st.one_of(
    st.binary(max_size=60).map(lambda raw: raw + SECRET.encode()),
    JUNK.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"", b"[" * 100_000, b'{"properties": ' * 50_000, b"\xef\xbb\xbf{}"]),
)
#: To which queue, and what.
SENT = st.tuples(
    st.sampled_from([queues.SHARED, queues.SMALL]),
    near_messages() | near_messages() | near_messages() | FAR_MESSAGES,
)


def tag(sent: tuple[str, bytes]) -> object:
    """The delivery tag of a message: a worker that takes two with the same one encodes one."""
    try:
        found: str = json.dumps(json.loads(sent[1])["properties"]["delivery_tag"])
    except (LookupError, RecursionError, TypeError, ValueError):
        return object()
    return found


class Bench:
    """A worker that receives messages, and a client that must still be answered."""

    def __init__(self, worker: StandInWorker, redis: Redis, client: BertClient) -> None:
        self.worker = worker
        self.redis = redis
        self.client = client
        self.expected_lines = 0

    def push(self, sent: list[tuple[str, bytes]]) -> None:
        """Send messages; wait until each is logged, and check the log."""
        with self.redis.pipeline() as pipe:
            pipe.delete(f"bertq:job:{JOB}")
            pipe.execute()
        records.write(self.redis, JOB, rows=3, chunks=CHUNKS)
        with self.redis.pipeline() as pipe:
            for queue, raw in sent:
                pipe.lpush(queue, raw)
            pipe.execute()
        for count in (3, 20):  # a small request and another one
            texts = standins.sentences(count)
            np.testing.assert_array_equal(self.client.encode(texts), standins.rows(texts))
        self.expected_lines += len(sent) + 2
        self.worker.wait_for(
            lambda: len(LOGGED.findall(self.worker.log)) >= self.expected_lines, 10
        )
        log = self.worker.log
        assert len(LOGGED.findall(log)) == self.expected_lines
        assert "glockenspiel" not in log
        for trouble in ("Traceback", "lost", "Error in", "raised"):
            assert trouble not in log, log[-3000:]

    def is_idle(self) -> bool:
        """Whether no chunk is waiting or unacknowledged."""
        waiting: Any = [self.redis.llen(queue) for queue in (queues.SHARED, queues.SMALL)]
        return not any([*waiting, self.redis.hlen("unacked"), self.redis.zcard("unacked_index")])


@pytest.fixture
def bench(start: Start, redis: Redis, redis_url: str) -> Any:
    with BertClient(redis_url=redis_url, timeout=20) as client:
        made = Bench(start(1.0), redis, client)
        yield made
        eventually(made.is_idle)
        assert made.worker.stop() == 0
        assert redis.llen(queues.SHARED) + redis.llen(queues.SMALL) == 0


def test_hand_made_messages_are_refused_one_by_one(bench: Bench) -> None:
    @settings(FUZZ, max_examples=100)
    @given(st.lists(SENT, min_size=10, max_size=30, unique_by=tag))
    def run(sent: list[tuple[str, bytes]]) -> None:
        bench.push(sent)

    run()
