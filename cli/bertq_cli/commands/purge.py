"""``bertq purge``: remove the waiting chunks of a queue."""

import click
from redis import RedisError

from bertq.protocol import queues
from bertq.redis import redis_url
from bertq.redis.connection import connect, explain
from bertq.state import purge, worker_info
from bertq_cli.redis_option import redis_option


@click.command(name="purge")
@click.argument("queue")
@redis_option("The Redis that has the queue.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def purge_queue(queue: str, url: str, yes: bool) -> None:
    """Remove all chunks that wait on QUEUE, such as bertq, bertq.small, gpu0 or bertq.NAME.

    Their callers get the error ChunkPurged, also those of requests that are sent during the
    command. A durable job on the queue fails; its finished vectors remain available. Chunks that
    workers have taken are not affected.

    The user of Redis needs the rights of a worker.
    """
    name = queues.check(queue)
    with connect(url) as redis:
        try:
            waiting = redis.llen(name)
            if not waiting:
                click.echo(f"no chunk waits on queue {name} of {redis_url.redact(url)}")
                return
            serving = [worker for worker in worker_info.read(redis) if name in worker.queues]
            if not yes:
                click.confirm(_question(name, url, waiting, len(serving)), abort=True)
            found = purge.purge(redis, name)
        except (RedisError, OSError) as error:
            raise explain(error, url).error from None
    click.echo(
        f"removed {_count(found.chunks, 'chunk')} from queue {name}: {found.failed} of active "
        "requests, whose callers get the error ChunkPurged"
    )


def _question(queue: str, url: str, waiting: int, workers: int) -> str:
    served = f"{_count(workers, 'worker')} of the queue" if workers else "no worker of the queue"
    return (
        f"{_count(waiting, 'chunk')} on queue {queue} of {redis_url.redact(url)}, and {served}. "
        "Remove all chunks? Their callers get an error"
    )


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
