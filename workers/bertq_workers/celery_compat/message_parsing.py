"""Validation of messages from a queue, before Celery and kombu process them.

Celery and kombu trust everybody who can write to a queue. A field with an unexpected type ends the
worker's loop, or makes it reconnect, after which the message comes back. A header sets any
attribute of the request. ``celery.map`` and the like are tasks too. An ETA leaves a message in the
worker for years. A compressed body may be of any size. Therefore kombu gets only envelopes in the
form that it writes itself, and Celery only the headers that a chunk needs.

An error says which part is invalid and never quotes it.

Relies on a private part of kombu 5.7 (the version is pinned, and tests/workers/test_transport.py
checks it): ``_decode`` of a message returns the value of its body.
"""

import json
import re
import sys
from contextlib import suppress
from typing import Any

import msgspec
from kombu.transport import virtual

from bertq import tracing
from bertq.protocol.queues import ENCODE_TASK

#: Ids of tasks and of clients, and tags of messages: they become keys in Redis and are logged.
_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,200}", re.ASCII)

#: A Unix time in seconds, later than any clock shows.
_FAR_FUTURE_SECONDS = 2**40

#: Headers that request features which chunks do not use.
_UNUSED_HEADERS = (
    "eta", "expires", "group", "chord", "chain", "callbacks", "errbacks", "stamped_headers",
)  # fmt: skip

# kombu has no types, and its stubs omit private parts.
_StockMessage: Any = virtual.Message


class InvalidMessage(Exception):
    """A message is not the message of a chunk; the error's text gives the reason."""


class UnknownTask(InvalidMessage):
    """A message requests a task that bertq does not have."""


class Message(_StockMessage):  # type: ignore[misc]
    """A message that tolerates a body with invalid base64, which would end the stock loop.

    Its body is decoded in a twentieth of the time that kombu takes.
    """

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **options)
        except ValueError:
            super().__init__({**payload, "body": ""}, channel=channel, **options)
            self._raw = payload
            # kombu's consumer passes a message with errors on as one that cannot be decoded.
            self.errors.append(sys.exc_info())

    def _decode(self) -> Any:
        if self.content_type == "application/json" and self.content_encoding.lower() == "utf-8":
            with suppress(UnicodeDecodeError):
                return _decode_json(self.body.decode())
        return super()._decode()


def _decode_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # it accepts more, such as lone surrogates, and is slower


def is_name(value: Any) -> bool:
    """Return whether a value can be the id of a task or of a client."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def parse_envelope(raw: bytes, queue: str) -> tuple[Any, str]:
    """Return a message for kombu, and its entry for ``unacked``.

    Args:
        raw: the message from the queue.
        queue: the queue to return the message to, regardless of its own fields.

    Raises:
        InvalidMessage: kombu has not written it.
    """
    try:
        # The text is copied into ``unacked`` unchanged.
        text = raw.decode()
        message = _decode_json(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"it is not JSON ({type(error).__name__})") from None
    check_envelope(message)
    properties = message["properties"]
    properties["delivery_info"] = {
        "exchange": "",
        "routing_key": queue,
        "redelivered": bool(properties["delivery_info"].get("redelivered")),
    }
    return message, f'[{text}, "", {json.dumps(queue)}]'


def check_envelope(message: Any) -> None:
    """Check a value decoded from JSON before kombu treats it as a message.

    Raises:
        InvalidMessage: kombu has not written it.
    """
    _check_type(message, dict, "it")
    for part in ("headers", "properties"):
        _check_type(message.get(part), dict, f"its {part}")
    for part in ("body", "content-type", "content-encoding"):
        _check_type(message.get(part), str, f"its {part}")
    properties = message["properties"]
    _check_type(properties.get("delivery_info"), dict, "its delivery_info")
    if not is_name(properties.get("delivery_tag")):
        raise InvalidMessage("its delivery tag is not a name")
    if properties.get("body_encoding") != "base64":
        raise InvalidMessage("its body is not in base64")
    if type(properties.get("priority", 0)) is not int:
        raise InvalidMessage("its priority is not a whole number")
    if message["headers"].get("compression"):
        raise InvalidMessage("its body is compressed")


def check(message: Any) -> None:
    """Check a message that kombu has received, and remove all headers that a chunk does not need.

    Args:
        message: kombu's message, from an envelope checked by this module; its headers are replaced.

    Raises:
        UnknownTask: it requests another task.
        InvalidMessage: it does not request a chunk.
        kombu.exceptions.KombuError: its body cannot be decoded, or has a refused content type.
    """
    headers = message.headers
    task = headers.get("task")
    if not isinstance(task, str):
        raise InvalidMessage("it is not a Celery task")
    if task != ENCODE_TASK:
        raise UnknownTask("no task of that name is registered")
    if not is_name(headers.get("id")):
        raise InvalidMessage("it is malformed (its id is not a name)")
    reply_to = message.properties.get("reply_to")
    if reply_to is not None and not is_name(reply_to):
        raise InvalidMessage("it is malformed (its reply_to is not a name)")
    for name in _UNUSED_HEADERS:
        if headers.get(name):
            raise InvalidMessage(f"it is malformed (a chunk cannot have {name})")
    if headers.get("timelimit") not in (None, [], [None, None]):
        raise InvalidMessage("it is malformed (a chunk cannot have timelimit)")
    # The encoding may name any of Python's codecs, and some of them decompress.
    if message.content_encoding.lower() != "utf-8":
        raise InvalidMessage("it is malformed (its encoding is not UTF-8)")
    count = _check_arguments(message.payload)
    message.headers = {
        "lang": "py",
        "task": task,
        "id": headers["id"],
        "root_id": headers["id"],
        "wire": headers.get("wire"),
        # Whether the sender reads small results from the notice alone.
        "notice": bool(headers.get("notice")),
        "body_bytes": len(message.body or b""),
        "sent": sent if _is_time(sent := headers.get("sent")) else None,
        "traceparent": tracing.check(headers.get("traceparent")),
        # Shown in events and the dashboard; the original representation may quote the sentences.
        "argsrepr": f"(<{count} sentences>,)",
        "kwargsrepr": "{}",
    }


def _is_time(value: Any) -> bool:
    """Return whether a value can be a Unix time; Python's JSON allows NaN and Infinity."""
    return type(value) in (int, float) and 0 < value < _FAR_FUTURE_SECONDS


def _check_arguments(payload: Any) -> int:
    """Check the arguments of the task; return the apparent number of sentences."""
    if not isinstance(payload, list) or [type(part) for part in payload] != [list, dict, dict]:
        raise InvalidMessage("it is malformed (its body does not have Celery's form)")
    arguments, named, rest = payload
    if named:
        raise InvalidMessage("it is malformed (it has named arguments)")
    # These would set attributes of the request, such as its id.
    if any(rest.values()) or not rest.keys() <= {"callbacks", "errbacks", "chain", "chord"}:
        raise InvalidMessage("it is malformed (it has more than the arguments of a chunk)")
    return len(arguments[0]) if arguments and isinstance(arguments[0], list) else 0


def _check_type(value: Any, kind: type, part: str) -> None:
    if not isinstance(value, kind):
        raise InvalidMessage(f"{part} is a {type(value).__name__}, not a {kind.__name__}")
