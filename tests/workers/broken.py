"""A stand-in worker with a bug in one of its parts; the first argument says in which.

Its timeouts are short, as in ``tests.chaos.quick``.
"""

import sys
import threading
from typing import Any, NoReturn

from benchmarks import standin
from bertq.config import celery_config
from bertq.protocol import time_to_live
from tests.chaos import quick

#: In the message of each error, which must not be logged.
SECRET = "xylophone"

_fails_next = threading.Lock()


def fail(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(f"it quotes {SECRET}")


def break_heartbeat() -> None:
    from bertq_workers.celery_compat.unacked import QoS

    replaced: Any = QoS
    replaced.renew = fail


def break_registration() -> None:
    from bertq_workers.background import registration

    replaced: Any = registration
    replaced.worker_info.publish = fail


def break_monitor() -> None:
    from bertq_workers.background import durable_job_monitor

    replaced: Any = durable_job_monitor
    replaced.active_jobs = fail


def break_graph() -> None:
    replaced: Any = standin
    replaced.SimulatedModel.run = fail


def break_lane() -> None:
    from bertq_workers.batching import batcher

    replaced: Any = batcher
    replaced.BatchBuilder.fill = fail


def break_pool_thread() -> None:
    from bertq_workers.celery_compat import failures

    replaced: Any = failures
    replaced.break_cycles = fail


def break_group() -> None:
    from bertq_workers.celery_compat import pool

    replaced: Any = pool
    replaced.ChunkPool._run_group = fail


def break_acknowledge() -> None:
    from bertq_workers.celery_compat.request import ChunkRequest

    replaced: Any = ChunkRequest
    replaced.acknowledge = fail


def break_acknowledge_once() -> None:
    from bertq_workers.celery_compat.request import ChunkRequest

    replaced: Any = ChunkRequest
    acknowledge = replaced.acknowledge

    def fail_once(self: Any) -> None:
        if _fails_next.acquire(blocking=False):
            fail()
        acknowledge(self)

    replaced.acknowledge = fail_once


def break_acknowledge_and_reject() -> None:
    from bertq_workers.celery_compat.request import ChunkRequest

    break_acknowledge()
    replaced: Any = ChunkRequest
    replaced.reject = fail


def break_result() -> None:
    """Have the first chunk run out of memory at its end; Celery then raises in its callback."""
    from bertq_workers.batching import chunk

    replaced: Any = chunk
    finish = replaced.finish

    def fail_once(*arguments: Any) -> Any:
        if _fails_next.acquire(blocking=False):
            raise MemoryError(f"it quotes {SECRET}")
        return finish(*arguments)

    replaced.finish = fail_once


if __name__ == "__main__":
    replaced: Any = celery_config
    replaced.VISIBILITY_TIMEOUT_SECONDS = quick.TIMEOUT
    replaced = time_to_live
    replaced.WORKER_SECONDS = quick.WORKER_TTL_SECONDS
    globals()[f"break_{sys.argv.pop(1)}"]()
    standin.main()
