"""Start-up of a worker: pin the device, load the model, claim the queues, publish worker info.

Celery runs the parts in this order: ``celeryd_init`` names the node; the worker blueprint creates
``ModelStep`` (the queues are known, nothing is consumed yet); ``worker_ready`` publishes the worker
info; ``worker_shutting_down`` and ``worker_shutdown`` withdraw it. All checks that can refuse a
worker run before the import of TensorFlow, which takes seconds.
"""

import logging
import os
import platform
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NoReturn

import celery
from celery import Celery, bootsteps, signals
from redis import RedisError

import bertq
from bertq.config.options import refuse_old_spelling
from bertq.config.settings import Settings
from bertq.errors import BertqError, SettingsError
from bertq.protocol import queues, versions
from bertq.protocol.queues import ENCODE_TASK
from bertq.redis import server
from bertq.redis.connection import connect, refuse_cluster
from bertq.state.worker_info import WorkerInfo
from bertq_bert.errors import OutOfMemory
from bertq_workers.background.durable_job_monitor import DurableJobMonitor
from bertq_workers.background.registration import Registration
from bertq_workers.background.watchdog import Watchdog
from bertq_workers.celery_compat import worker_setup
from bertq_workers.celery_compat.intake import Intake
from bertq_workers.celery_compat.shutdown import drain_worker, end_worker
from bertq_workers.celery_compat.versions import check_versions
from bertq_workers.observability import exporter, logs
from bertq_workers.observability.meter import Meter
from bertq_workers.startup import admission, loading, process, selection
from bertq_workers.timings import timings_of

if TYPE_CHECKING:
    from bertq_bert import Model

log = logging.getLogger("bertq.worker")


def register(app: Celery) -> None:
    """Add the start-up of a worker to the workers of this app."""
    app.steps["worker"].add(ModelStep)
    app.steps["consumer"].add(Intake)

    # Signals are sent for the workers of every app in the process.
    def name_node(instance: Any = None, options: Any = None, **_: Any) -> None:
        if instance is not None and instance.app is app:
            selection.name_node(instance, options or {})
            logs.set_format(instance, options or {})

    signals.celeryd_init.connect(name_node, weak=False)


class ModelStep(bootsteps.Step):
    """Reads the model, claims the queues and builds the graph while Celery builds the worker.

    This happens in ``__init__`` instead of ``start`` because the signal handlers of the warm
    shutdown are not installed yet: SIGTERM and Ctrl-C end a loading worker at once. Celery makes
    the pool between ``__init__`` and ``create``.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        started = time.perf_counter()
        process.tune()
        task_class: Any = type(worker.app.tasks[ENCODE_TASK])
        meter: Meter = task_class.meter
        url = str(worker.app.conf.broker_url)
        try:
            check_versions()
            refuse_old_spelling(sys.argv[1:])
            settings = Settings.read(os.environ, options)
            worker_setup.check_pool(worker, options)
            worker_setup.set_remote_control(worker, settings.remote_control)
            names = queues.of_model(settings.model_name)
            device = selection.select_queues(worker, names)
            metrics = exporter.start(settings, meter, url)
            refuse_cluster(url)  # before the model is read
            source = loading.read(settings, device)
            info = _worker_info(worker, source.model, device, names)
            build = partial(loading.build, source, settings, device, worker.concurrency)
            if settings.standby:
                encoder, hardware = build()
                info = replace(info, device_name=hardware.name, started=time.time())
                with connect(url) as redis:
                    admission.stand_by(redis, info)
            _admit(url, info)
            registration = _start_registration(worker.app, url, info, meter)
            if not settings.standby:
                encoder, hardware = build()
        except SettingsError as error:
            refuse(str(error), os.EX_CONFIG)
        except (exporter.PortTaken, OutOfMemory) as error:
            refuse(str(error), os.EX_UNAVAILABLE)
        registration.info = replace(info, device_name=hardware.name, started=time.time())
        # Imported late: until here the import might have failed.
        from bertq_workers.batching.batcher import Batcher
        from bertq_workers.groups import GroupEncoder

        batcher = Batcher(
            encoder,
            lanes=encoder.lanes,
            ahead=hardware.ahead,
            small_rows=settings.priority_batch_size,
            on_batch=meter.count_batch,
            probe=lambda: encoder.run([[0]]),
        )
        meter.lanes = encoder.lanes
        meter.oldest_batch_seconds = batcher.oldest_batch_seconds
        task_class.show_tokens = settings.show_tokens_to_client
        task_class.encoder, task_class.batcher = encoder, batcher
        worker.app.backend.on_stored = meter.count_stored
        self._groups = GroupEncoder(
            encoder,
            batcher,
            worker.app.backend,
            meter,
            shows_tokens=settings.show_tokens_to_client,
        )
        Watchdog(batcher.oldest_batch_seconds, settings.batch_timeout)
        self._encoder = encoder
        self._batches = encoder.lanes + hardware.ahead
        self._registration = registration
        self._meter = meter
        self._metrics = metrics
        if metrics is not None:
            metrics.info = registration.info
            metrics.compile_stats = encoder.compile_stats
        log.info(
            "model %s on %s: %s, %s; ready after %.1f s, %d MiB",
            encoder.name, hardware.name, encoder.description, encoder.dtype,
            time.perf_counter() - started, process.memory() >> 20,
        )  # fmt: skip
        super().__init__(worker, **options)

    def create(self, worker: Any) -> None:
        """Set the limits of the pool's capacity, how it encodes groups, and its claims."""
        worker.pool.groups = self._groups
        worker.pool.take_claims = self._registration.take_claims
        capacity = worker.pool.capacity
        capacity.set_limits(self._encoder.budget, self._batches)
        self._meter.held_chunks = lambda: capacity.chunks
        if self._metrics is not None:
            self._metrics.chunks_in_worker = lambda: capacity.chunks


def _admit(url: str, info: WorkerInfo) -> None:
    try:
        with connect(url) as redis:
            admission.admit(redis, url, info)
            with suppress(RedisError):
                if warning := server.eviction_warning(redis):
                    log.warning("%s", warning)
    except BertqError as error:
        refuse(str(error), os.EX_UNAVAILABLE)


def _start_registration(app: Celery, url: str, info: WorkerInfo, meter: Meter) -> Registration:
    """Start to renew the claims, and connect the threads that act on Redis to Celery's signals."""
    timings = timings_of(app)
    registration = Registration(
        url,
        info,
        meter,
        end_worker=lambda reason: end_worker(reason, os.EX_UNAVAILABLE),
        drain_worker=drain_worker,
        interval_seconds=timings.registration_seconds,
    )
    monitor = DurableJobMonitor(url, timings.monitor_seconds, timings.lost_after_seconds)

    def ready(sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is app:
            registration.publish()
            monitor.start()

    def shutting_down(how: str = "", **_: Any) -> None:
        # A signal handler. It gets only a name; there is one worker in a process.
        if how == "Warm":
            registration.drain()
        else:
            registration.withdraw()
        monitor.stop()

    def shutdown(sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is app:
            registration.stop()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shutdown, weak=False)
    registration.start()
    return registration


def refuse(reason: str, status: int) -> NoReturn:
    """End the worker before it has started: log one line, exit with a status of ``sysexits.h``.

    ``EX_CONFIG`` (78) means that the worker cannot start until somebody changes something,
    ``EX_UNAVAILABLE`` (69) that it may start later.
    """
    log.critical("this worker cannot start: %s", reason)
    raise SystemExit(status)


def _worker_info(
    worker: Any, model: "Model", device: queues.Device | None, names: queues.ModelQueues
) -> WorkerInfo:
    return WorkerInfo(
        node=worker.hostname,
        instance=uuid.uuid4().hex,
        queues=worker_setup.selected_queues(worker),
        device=device.queue if device else "default",
        device_name="",  # set once TensorFlow has reported it
        model=model.name,
        fingerprint=model.fingerprint,
        max_seq_len=model.max_seq_len,
        max_batch_size=model.max_batch_size,
        pooling_strategy=model.pooling_strategy,
        pooling_layer=list(model.pooling_layers),
        row_shape=list(model.row_shape),
        dtype=model.dtype,
        pid=os.getpid(),
        started=time.time(),
        versions=_versions(),
        model_name=names.model,
        description=model.description,
        task=model.task,
        normalized=model.normalized,
        prompts=list(model.prompts),
        default_prompt=model.default_prompt,
        similarity=model.similarity,
        labels=list(model.labels),
        activation=model.activation,
        wire=versions.known(),
    )


def _versions() -> dict[str, str]:
    return {
        "bertq": bertq.__version__,
        "celery": celery.__version__,
        "tensorflow": _tensorflow_version(),
        "python": platform.python_version(),
    }


def _tensorflow_version() -> str:
    try:
        return version("tensorflow")
    except PackageNotFoundError:
        return version("tensorflow-cpu")  # of the extra "cpu"
