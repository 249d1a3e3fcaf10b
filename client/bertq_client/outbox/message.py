"""The message that asks a worker for a chunk, as Celery and kombu would write it.

Made by hand: Celery and kombu take 0.4 ms for a message and write it in a round trip of its own,
and importing them holds up the first request for a third of a second. What the message is made of
follows ``Celery.send_task``, ``AMQP.as_task_v2`` and ``AMQP.send_task_message`` of celery 5.7 and,
down to the value that a worker pops, kombu 5.7 (both are pinned): ``Producer.publish``,
``Channel.prepare_message``, ``Channel.basic_publish``, and ``_put`` of the Redis transport, which
is an LPUSH to the list of the queue's name. tests/client/test_message.py compares the two.

One header more says which wire format the client speaks: workers refuse others, and none. Another
tells when the message was written, for the worker's metrics.
"""

import json
import os
import socket
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from bertq.protocol.queues import ENCODE_TASK
from bertq.protocol.wire import WIRE_VERSION
from bertq_client.inputs import Text

_to_json = json.JSONEncoder().encode


class Envelope:
    """What the messages of one client have in common.

    Args:
        reply_to: the client's id, for whose stream the answers are.
        dated: whether they tell when they were written, because they are sent at once.
    """

    def __init__(self, reply_to: str, *, dated: bool = True) -> None:
        self._reply_to = reply_to
        self._dated = dated
        self._origin = f"gen{os.getpid()}@{socket.gethostname()}"

    def seal(
        self, task_id: str, texts: Sequence[Text], queue: str, options: dict[str, Any] | None = None
    ) -> str:
        """Return the message for a chunk, to be pushed to ``queue``.

        Args:
            task_id: of the chunk.
            texts: its sentences.
            queue: where it goes.
            options: of ``bertq.protocol.encoding.Encoding``, those that are not the defaults.
        """
        # Callbacks and the like come as the third part of the arguments.
        body = _to_json(
            [
                [texts, options or {}],
                {},
                {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
            ]
        )
        properties: dict[str, Any] = {
            "correlation_id": task_id,
            "reply_to": self._reply_to,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            # Random in Celery. This one tells the client whether a worker holds the chunk.
            "delivery_tag": task_id,
        }
        return _to_json(
            {
                "body": b64encode(body.encode()).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": self._headers(task_id, len(texts)),
                "properties": properties,
            }
        )

    def _headers(self, task_id: str, sentences: int) -> dict[str, Any]:
        headers: dict[str, Any] = {
            "lang": "py",
            "task": ENCODE_TASK,
            "id": task_id,
            "shadow": None,
            "eta": None,
            # An absolute time: a skewed clock would kill chunks. The job's record decides.
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            # What logs, events and the dashboard show of the arguments: none of the user's text.
            "argsrepr": f"(<{sentences} sentences>,)",
            "kwargsrepr": "{}",
            "origin": self._origin,
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            "wire": WIRE_VERSION,
        }
        if self._dated:
            headers["sent"] = time.time()
        return headers
