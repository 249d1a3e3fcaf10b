"""The message that asks a worker for a chunk, in the format of Celery and kombu.

This module builds it directly: Celery and kombu need 0.4 ms and a round trip for each message, and
importing them delays the first request by a third of a second. The message follows
``Celery.send_task``, ``AMQP.as_task_v2`` and ``AMQP.send_task_message`` of celery 5.7. The value
that a worker pops follows kombu 5.7: ``Producer.publish``, ``Channel.prepare_message``,
``Channel.basic_publish``, and ``_put`` of the Redis transport, which is an LPUSH to the list with
the queue's name. Both versions are pinned. tests/client/test_message.py compares this message
with theirs.

Four headers are added. One has the wire format of the message, which a worker must know. Another
one says that the client reads small results from their notices, so that the worker stores them only
once. One has the time of writing, for the worker's metrics. The last one, only of a traced request,
has the context of its span (``bertq.tracing``).
"""

import json
import os
import socket
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from bertq.protocol.queues import ENCODE_TASK
from bertq.protocol.versions import WIRE_VERSION
from bertq_client.inputs import Text

_to_json = json.JSONEncoder().encode

#: Stand for the values of a message in its template: none of its other texts has such a character.
_BODY, _ID, _QUEUE, _ARGUMENTS, _SENT, _WIRE = _NAMES = [f"\x01{number}" for number in range(6)]

#: The same, as JSON.
_PLACES = {name: _to_json(name) for name in _NAMES}

#: The rest of a body, after the arguments: no keyword arguments, and no callbacks.
_BODY_END = ', {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


class MessageBuilder:
    """Builds the messages of a client.

    Args:
        reply_to: id of the client; the answers go to its reply stream.
        has_time: whether messages have the time of writing; they do if they are sent at once.
    """

    def __init__(self, reply_to: str, *, has_time: bool = True) -> None:
        headers = _headers(f"gen{os.getpid()}@{socket.gethostname()}")
        if has_time:
            headers |= {"notice": True, "sent": _SENT}
        # Of a message of one sentence, encoding all of it would be most of the work.
        self._template = _to_json(
            {
                "body": _BODY,
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": headers,
                "properties": {
                    "correlation_id": _ID,
                    "reply_to": reply_to,
                    "delivery_mode": 2,
                    "delivery_info": {"exchange": "", "routing_key": _QUEUE},
                    "priority": 0,
                    "body_encoding": "base64",
                    # Random in Celery. Here it lets the client look up whether the chunk is
                    # unacknowledged.
                    "delivery_tag": _ID,
                },
            }
        )

    def build(
        self,
        task_id: str,
        texts: Sequence[Text],
        queue: str,
        options: dict[str, Any] | None = None,
        sent_at: float | None = None,
        traceparent: str | None = None,
        wire: int = WIRE_VERSION,
    ) -> str:
        """Return the message for a chunk, to be pushed to ``queue``.

        Equal arguments give equal messages.

        Args:
            task_id: id of the chunk.
            texts: its sentences.
            queue: its queue.
            options: options of ``bertq.protocol.encoding.Encoding`` that differ from the defaults.
            sent_at: Unix time of writing; now by default.
            traceparent: context of the span of the request, for the header of this name.
            wire: format of the message.
        """
        body = f"[{_to_json([texts, options or {}])}{_BODY_END}"
        # The arguments as shown in logs, events and the dashboard, without the user's text.
        values = {
            _ARGUMENTS: f'"(<{len(texts)} sentences>,)"',
            _SENT: repr(time.time() if sent_at is None else sent_at),
            _WIRE: str(wire),
            _QUEUE: _to_json(queue),
            _ID: _to_json(task_id),
            _BODY: f'"{b64encode(body.encode()).decode()}"',
        }
        message = self._template
        for name, value in values.items():
            message = message.replace(_PLACES[name], value)
        if traceparent is not None:
            header = f'"headers": {{"traceparent": {_to_json(traceparent)}, '
            message = message.replace('"headers": {', header)
        return message


def _headers(origin: str) -> dict[str, Any]:
    return {
        "lang": "py",
        "task": ENCODE_TASK,
        "id": _ID,
        "shadow": None,
        "eta": None,
        # This would be an absolute time, and a skewed clock would drop chunks. Workers check the
        # job's record instead.
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": _ID,
        "parent_id": None,
        "argsrepr": _ARGUMENTS,
        "kwargsrepr": "{}",
        "origin": origin,
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        "wire": _WIRE,
    }
