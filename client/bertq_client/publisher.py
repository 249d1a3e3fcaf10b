"""Putting chunks on a queue."""

from typing import Any

from redis import RedisError

from bertq.connection import CONNECT_TIMEOUT, SOCKET_TIMEOUT
from bertq_client import forks


class Publisher:
    """One connection to the broker, used by one thread.

    ``Celery.send_task`` would also set up the result backend and make an ``AsyncResult`` for every
    chunk, whose finalizer talks to Redis from the garbage collector; here the message is made and
    sent by the same two public steps of ``app.amqp``, and nothing else happens.

    Attributes:
        errors: what ``publish`` raises when the chunk may not have arrived; all of them are known
            once ``load`` was called.
    """

    errors: tuple[type[Exception], ...] = (RedisError, OSError)

    def __init__(self, url: str, reply_to: str) -> None:
        self._url = url
        self._reply_to = reply_to
        self._task = ""
        self._amqp: Any = None
        self._connection: Any = None
        self._producer: Any = None

    @property
    def loaded(self) -> bool:
        """Whether Celery is imported."""
        return self._amqp is not None

    def load(self) -> None:
        """Import Celery, which takes a moment: ``import bertq`` should not."""
        with forks.held_off():
            from kombu.exceptions import OperationalError

            from bertq.broker import ENCODE_TASK, create_app

            self._task = ENCODE_TASK
            self.errors = (RedisError, OSError, OperationalError)
            self._amqp = create_app(self._url).amqp

    def publish(self, task_id: str, texts: list[str], queue: str) -> None:
        """Send one chunk; not repeated on an error.

        Raises:
            redis.RedisError, kombu.exceptions.OperationalError, OSError: it may not have arrived.
        """
        with forks.held_off():
            if self._producer is None:
                self._open()
            amqp = self._amqp
            # ``argsrepr`` is what logs, events and the dashboard show of the arguments.
            message = amqp.create_task_message(
                task_id,
                self._task,
                [texts],
                {},
                argsrepr=f"(<{len(texts)} sentences>,)",
                kwargsrepr="{}",
                reply_to=self._reply_to,
            )
            amqp.send_task_message(self._producer, self._task, message, queue=queue, retry=False)

    def _open(self) -> None:
        from kombu import Connection

        # The URL itself, not the app's setting: Celery lets an environment variable of the host
        # program (CELERY_BROKER_URL) override that.
        self._connection = Connection(
            self._url,
            transport_options={
                "socket_timeout": SOCKET_TIMEOUT,
                "socket_connect_timeout": CONNECT_TIMEOUT,
                # kombu would try again by itself, and not listen to anybody meanwhile.
                "max_retries": 0,
            },
        )
        self._producer = self._amqp.Producer(self._connection, auto_declare=False)

    def close(self) -> None:
        """Close the connection; the next ``publish`` opens another."""
        if self._connection is not None:
            with forks.held_off():
                self._connection.release()
        self._connection = self._producer = None
