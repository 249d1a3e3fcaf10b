"""The message that asks a worker for a chunk, in the format of Celery and kombu.

This module builds it directly: Celery and kombu need 0.4 ms and a round trip for each message, and
importing them delays the first request by a third of a second. The message follows
``Celery.send_task``, ``AMQP.as_task_v2`` and ``AMQP.send_task_message`` of celery 5.7. The value
that a worker pops follows kombu 5.7: ``Producer.publish``, ``Channel.prepare_message``,
``Channel.basic_publish``, and ``_put`` of the Redis transport, which is an LPUSH to the list with
the queue's name. Both versions are pinned. tests/client/test_message.py compares this message
with theirs.

Three headers are added. One has the client's wire format; workers refuse a message with another one
or none. Another one says that the client reads small results from their notices, so that the worker
stores them only once. The last has the time of writing, for the worker's metrics.
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


class MessageBuilder:
    """Builds the messages of a client.

    Args:
        reply_to: id of the client; the answers go to its reply stream.
        has_time: whether messages have the time of writing; they do if they are sent at once.
    """

    def __init__(self, reply_to: str, *, has_time: bool = True) -> None:
        self._reply_to = reply_to
        self._has_time = has_time
        self._origin = f"gen{os.getpid()}@{socket.gethostname()}"

    def build(
        self,
        task_id: str,
        texts: Sequence[Text],
        queue: str,
        options: dict[str, Any] | None = None,
        sent_at: float | None = None,
    ) -> str:
        """Return the message for a chunk, to be pushed to ``queue``.

        Equal arguments give equal messages.

        Args:
            task_id: id of the chunk.
            texts: its sentences.
            queue: its queue.
            options: options of ``bertq.protocol.encoding.Encoding`` that differ from the defaults.
            sent_at: Unix time of writing; now by default.
        """
        # The third element has callbacks and similar options.
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
            # Random in Celery. Here it lets the client look up whether the chunk is unacknowledged.
            "delivery_tag": task_id,
        }
        return _to_json(
            {
                "body": b64encode(body.encode()).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": self._headers(task_id, len(texts), sent_at),
                "properties": properties,
            }
        )

    def _headers(self, task_id: str, sentences: int, sent_at: float | None) -> dict[str, Any]:
        headers: dict[str, Any] = {
            "lang": "py",
            "task": ENCODE_TASK,
            "id": task_id,
            "shadow": None,
            "eta": None,
            # This would be an absolute time, and a skewed clock would drop chunks. Workers check
            # the job's record instead.
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            # The arguments as shown in logs, events and the dashboard, without the user's text.
            "argsrepr": f"(<{sentences} sentences>,)",
            "kwargsrepr": "{}",
            "origin": self._origin,
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            "wire": WIRE_VERSION,
        }
        if self._has_time:
            headers["notice"] = True
            headers["sent"] = time.time() if sent_at is None else sent_at
        return headers
