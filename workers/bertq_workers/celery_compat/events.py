"""Events of tasks, which the dashboard shows, made only while a process receives them.

To make and publish the three events of a small chunk takes almost as long as everything else that
the worker's event loop does for it. Here, an event is a tuple until the collected events are sent,
and they are dropped if they have no receivers. Redis answers to each publication with the number of
its receivers. As long as it is zero, an empty list of events is published first, so a receiver gets
all events that were collected when it subscribed, and all that follow.

Relies on private parts of celery and kombu 5.7 (the versions are pinned, and
tests/workers/test_events.py checks each): ``buffer_group``, ``_closed``, ``_publish`` and the calls
of ``flush`` and ``extend_buffer`` of a dispatcher; that a receiver accepts an empty list of events;
the class that an app's ``events`` names.
"""

import time
from typing import Any

from celery.app import events
from celery.events.dispatcher import EventDispatcher as CeleryEventDispatcher
from celery.events.event import Event
from celery.utils.time import utcoffset

# Celery's stubs omit private parts.
_CeleryEventDispatcher: Any = CeleryEventDispatcher
_CeleryEvents: Any = events.Events

_GROUP = "task"

#: Most events to collect. Celery's limit is 24, which are those of eight chunks.
_MAX_EVENTS = 1000


class EventDispatcher(_CeleryEventDispatcher):  # type: ignore[misc]
    """A dispatcher that makes the events of tasks when they are sent, for receivers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Type, time and fields of each event.
        self._collected: list[tuple[str, float, dict[str, Any]]] = []
        self._has_receivers = True
        super().__init__(*args, **options)

    def send(self, type: str, *args: Any, **fields: Any) -> None:
        """Send an event; an event of a task waits for ``flush`` if such events are buffered."""
        if _GROUP not in self.buffer_group or not type.startswith(_GROUP):
            super().send(type, *args, **fields)
        elif self.enabled and (not self.groups or _GROUP in self.groups):
            self._collected.append((type, time.time(), fields))
            if len(self._collected) >= _MAX_EVENTS:
                self.flush()
            elif self.on_send_buffered:
                self.on_send_buffered()

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send the events that wait; drop those of tasks if they have no receivers."""
        super().flush(errors, groups)
        if not groups or self._closed or not self._collected:
            return
        if not self._has_receivers:
            self._publish_for_tasks([])
        if self._has_receivers:
            self._publish_for_tasks([self._event(*event) for event in self._collected])
        self._collected.clear()

    def extend_buffer(self, other: "EventDispatcher") -> None:
        """Take over the events that wait in another dispatcher, whose connection was lost."""
        super().extend_buffer(other)
        self._collected.extend(other._collected)

    def _event(self, type: str, timestamp: float, fields: dict[str, Any]) -> dict[str, Any]:
        event: dict[str, Any] = Event(
            type, timestamp=timestamp, hostname=self.hostname, utcoffset=utcoffset(),
            pid=self.pid, clock=self.clock.forward(), **fields,
        )  # fmt: skip
        return event

    def _publish_for_tasks(self, events: list[dict[str, Any]]) -> None:
        channel = self.producer.channel
        channel.receivers = None  # Celery retains events that cannot be published
        with self.mutex:
            self._publish(events, self.producer, f"{_GROUP}.multi")
        self._has_receivers = channel.receivers != 0


class Events(_CeleryEvents):  # type: ignore[misc]
    """The part of the app that makes dispatchers."""

    dispatcher_cls = "bertq_workers.celery_compat.events:EventDispatcher"
