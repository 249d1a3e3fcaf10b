"""How often the background threads of a worker act."""

from dataclasses import dataclass

from celery import Celery

from bertq.protocol import time_to_live
from bertq.state.lost_chunks import LOST_AFTER_SECONDS

_SETTING = "bertq_timings"


@dataclass(frozen=True)
class WorkerTimings:
    """Times of a worker; tests use shorter ones.

    Attributes:
        registration_seconds: time between two renewals of worker info and claims, which expire
            after three.
        monitor_seconds: time between two checks of durable jobs; the lease expires after three.
        lost_after_seconds: how long a chunk of a durable job must be missing to count as lost.
    """

    registration_seconds: float = time_to_live.WORKER_SECONDS / 3
    monitor_seconds: float = time_to_live.WORKER_SECONDS / 3
    lost_after_seconds: float = LOST_AFTER_SECONDS


def set_timings(app: Celery, timings: WorkerTimings) -> None:
    """Set the times of the workers of an app that start later."""
    app.conf[_SETTING] = timings


def timings_of(app: Celery) -> WorkerTimings:
    """Return the times of the workers of an app."""
    timings: WorkerTimings = app.conf.get(_SETTING, WorkerTimings())
    return timings
