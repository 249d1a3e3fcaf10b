"""Taking chunks from Redis as long as there is room: a step of Celery's consumer.

Celery bounds what a worker holds by a number of messages, kombu's ``prefetch_count``, which is
off here (``worker_prefetch_multiplier`` is 0; ``--prefetch-multiplier`` sets a further bound). The
rooms of the pool decide instead, at the place where celery itself hooks its option
``worker_disable_prefetch``: ``can_consume`` of a channel, asked before each BRPOP.

The queue of small requests is read over a channel of its own, with a room of its own: a worker that
is full of large chunks still takes in small ones.

Relies on the inside of celery and kombu 5.7 (the versions are pinned, and tests/workers/
test_intake.py looks at each): ``can_consume`` and ``can_consume_max_estimate`` of a channel's QoS,
``cancel_by_queue`` before anything is consumed, and the consumer's ``task_consumer``,
``initial_prefetch_count``, ``on_decode_error`` and ``create_task_handler``.
"""

from typing import Any

from celery import bootsteps
from kombu.common import ignore_errors

from bertq.protocol import queues
from bertq_workers.background.heartbeat import Heartbeat
from bertq_workers.batching.capacity import Capacity

#: Small requests that are taken in one command: more would keep them from other workers.
_AT_ONCE = 16

#: Signs of life within a visibility timeout: three may be late or lost.
_BEATS = 4


class Intake(bootsteps.StartStopStep):
    """Bounds what is taken; started again after each reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._small: Any = None
        conf = consumer.app.conf
        timeout = conf.broker_transport_options["visibility_timeout"]
        self._heartbeat = Heartbeat(str(conf.broker_url), timeout / _BEATS)

    def start(self, consumer: Any) -> None:
        """Put the bounds on the consumer's channel, and open the one of small requests."""
        channels = [consumer.task_consumer.channel]
        selected = consumer.app.amqp.queues.consume_from
        # There is at most one: a worker takes from the queues of one model.
        small = [queue for name, queue in selected.items() if queues.is_small(name)]
        if len(small) == len(selected):
            bound(channels[0], consumer.pool.flow.small)
        else:
            bound(channels[0], consumer.pool.flow.large)
            channels += [self._open_small(consumer, queue) for queue in small]
        self._heartbeat.watch([channel.qos for channel in channels])

    def _open_small(self, consumer: Any, queue: Any) -> Any:
        """Have small requests come over a channel of their own, and return it."""
        room = consumer.pool.flow.small
        consumer.task_consumer.cancel_by_queue(queue.name)
        channel = consumer.connection.channel()
        bound(channel, room)
        # As the step before this one does with the consumer's channel.
        channel.basic_qos(0, consumer.initial_prefetch_count, False)

        def at_once() -> Any:
            left = channel.qos.can_consume_max_estimate()  # None: not bounded
            return min(_AT_ONCE, room.free, _AT_ONCE if left is None else left)

        channel.at_once = at_once
        self._small = consumer.app.amqp.TaskConsumer(
            channel, queues=[queue], on_decode_error=consumer.on_decode_error
        )
        self._small.on_message = consumer.create_task_handler()
        self._small.consume()
        return channel

    def stop(self, consumer: Any) -> None:
        """Take no more; what is held can still be acknowledged."""
        if self._small is not None:
            ignore_errors(consumer, self._small.cancel)

    def shutdown(self, consumer: Any) -> None:
        """Give back what is held, and what comes in meanwhile: closing a channel does it."""
        self.stop(consumer)
        self._heartbeat.stop()
        # Here, and not with the connection, where kombu 5.7 has forgotten the channel already when
        # it reads the answer to the last BRPOP, and loses the message that it may hold.
        for taker in (self._small, consumer.task_consumer):
            if taker is not None:
                ignore_errors(consumer, taker.cancel)
                ignore_errors(consumer, taker.channel.close)
        self._small = None


def bound(channel: Any, room: Capacity) -> None:
    """Have a channel take a message only while its room is open."""
    qos = channel.qos
    stock = type(qos).can_consume

    def can_consume() -> bool:
        return room.open and bool(stock(qos))

    qos.can_consume = can_consume
