"""A step of Celery's consumer that takes chunks from Redis while the worker has capacity.

Celery limits the number of messages in a worker with kombu's ``prefetch_count``, which is off here
(``worker_prefetch_multiplier`` is 0; ``--prefetch-multiplier`` sets a further limit). The pool's
capacity decides instead, in the same place that celery uses for its option
``worker_disable_prefetch``: ``can_consume`` of a channel, called before each BRPOP.

The queue of small requests is read over its own channel, with its own capacity: a worker that is
full of large chunks still takes small ones.

Relies on private parts of celery and kombu 5.7 (the versions are pinned, and
tests/workers/test_intake.py checks each): ``can_consume`` and ``can_consume_max_estimate`` of a
channel's QoS, ``_create_client`` of a channel, ``cancel_by_queue`` before anything is consumed, and
the consumer's ``task_consumer``, ``initial_prefetch_count``, ``on_decode_error`` and
``create_task_handler``.
"""

from collections.abc import Callable
from typing import Any

from celery import bootsteps
from kombu.common import ignore_errors

from bertq.protocol import queues
from bertq_workers.background.heartbeat import Heartbeat
from bertq_workers.celery_compat.pool import ChunkPool
from bertq_workers.celery_compat.shutdown import is_stopping

#: Maximum small requests taken in one command; more would be unavailable to other workers.
_MAX_MESSAGES = 16

#: Heartbeats within a visibility timeout: three may be late or lost.
_HEARTBEATS_PER_TIMEOUT = 4


class Intake(bootsteps.StartStopStep):
    """Limits the chunks that a worker takes; started again after each reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        conf = consumer.app.conf
        timeout = conf.broker_transport_options["visibility_timeout"]
        self._heartbeat = Heartbeat(str(conf.broker_url), timeout / _HEARTBEATS_PER_TIMEOUT)

    def start(self, consumer: Any) -> None:
        """Limit the consumer's channel, and open the channel of small requests."""
        consumer.small_consumer = None  # that of a lost connection
        channels = [consumer.task_consumer.channel]
        # At this server, before the first chunk is taken from it.
        consumer.pool.take_claims(channels[0]._create_client())
        selected = consumer.app.amqp.queues.consume_from
        # There is at most one, because a worker takes from the queues of one model.
        small = [queue for name, queue in selected.items() if queues.is_small(name)]
        if len(small) == len(selected):
            take_several(channels[0], consumer.pool)
        else:
            large = consumer.pool.capacity.large
            limit(channels[0], lambda: large.is_available)
            channels += [self._open_small(consumer, queue) for queue in small]
        self._heartbeat.renew_for([channel.qos for channel in channels])

    def _open_small(self, consumer: Any, queue: Any) -> Any:
        """Open a separate channel for small requests, and return it."""
        consumer.task_consumer.cancel_by_queue(queue.name)
        channel = consumer.connection.channel()
        take_several(channel, consumer.pool)
        # The previous step does the same with the consumer's channel.
        channel.basic_qos(0, consumer.initial_prefetch_count, False)
        consumer.small_consumer = consumer.app.amqp.TaskConsumer(
            channel, queues=[queue], on_decode_error=consumer.on_decode_error
        )
        consumer.small_consumer.on_message = consumer.create_task_handler()
        consumer.small_consumer.consume()
        return channel

    def stop(self, consumer: Any) -> None:
        """Stop taking chunks; those in the worker can still be acknowledged."""
        if consumer.small_consumer is not None:
            ignore_errors(consumer, consumer.small_consumer.cancel)
        if is_stopping():
            for messages in self._consumers(consumer):
                messages.channel.qos.flush()  # its timer will not run

    def shutdown(self, consumer: Any) -> None:
        """Close the channels; unacknowledged and newly arriving chunks return to the queues."""
        self._heartbeat.stop()
        # The channels are closed here and not with the connection. There kombu 5.7 has already
        # forgotten the channel when it reads the answer to the last BRPOP, and loses the message in
        # that answer.
        for messages in self._consumers(consumer):
            ignore_errors(consumer, messages.cancel)
            ignore_errors(consumer, messages.channel.close)
        consumer.small_consumer = None

    @staticmethod
    def _consumers(consumer: Any) -> list[Any]:
        """Return kombu's consumers of the queues that are open."""
        found = (consumer.small_consumer, consumer.task_consumer)
        return [messages for messages in found if messages is not None]


def limit(channel: Any, has_capacity: Callable[[], bool]) -> None:
    """Have a channel take a message only while there is capacity."""
    qos = channel.qos
    kombu_can_consume = type(qos).can_consume

    def can_consume() -> bool:
        return has_capacity() and bool(kombu_can_consume(qos))

    qos.can_consume = can_consume


def take_several(channel: Any, pool: ChunkPool) -> None:
    """Have a channel take several small messages at once, and the records of their jobs.

    The pool may encode them as a group.
    """
    capacity = pool.capacity.small
    limit(channel, lambda: pool.takes_small)

    def max_messages() -> Any:
        prefetch = channel.qos.can_consume_max_estimate()
        limits = (_MAX_MESSAGES, capacity.free_small_chunks, prefetch)
        return min(number for number in limits if number is not None)

    channel.max_messages = max_messages
    channel.on_deliver = pool.gather_small
    channel.on_delivered = pool.start_small
    channel.qos.reads_records = True
