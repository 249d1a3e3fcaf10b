"""What a worker does before its first chunk: pin the device, load the model, advertise.

Celery runs the parts in this order: ``celeryd_init`` names the node, the worker blueprint creates
``ModelStep`` (queues are known, nothing is consumed yet), ``worker_ready`` starts the advert, and
``worker_shutting_down`` / ``worker_shutdown`` take it back.
"""

import logging
import os
import platform
import time
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

import celery
import click
from celery import Celery, bootsteps, signals
from celery.concurrency.solo import TaskPool as SoloPool
from celery.utils.nodenames import default_nodename, gethostname

import bertq
from bertq import queues
from bertq.adverts import Advert
from bertq.broker import ENCODE_TASK
from bertq.errors import SettingsError
from bertq.settings import Settings
from bertq_workers import devices
from bertq_workers.advertiser import Advertiser

if TYPE_CHECKING:
    from bertq_bert import Encoder

log = logging.getLogger("bertq.worker")


def register(app: Celery) -> None:
    """Hook the start of this app's workers."""
    app.steps["worker"].add(ModelStep)

    # Signals reach the workers of every app in the process: each handler looks whose it is.
    def name_node(instance: Any = None, **_: Any) -> None:
        if instance is not None and instance.app is app:
            _name_node(instance)

    def ready(sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is app:
            advertiser.start()

    def shutting_down(**_: Any) -> None:
        advertiser.withdraw()

    def shutdown(sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is app:
            advertiser.stop()

    advertiser = _advertisers[app] = Advertiser(app)
    signals.celeryd_init.connect(name_node, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shutdown, weak=False)


_advertisers: dict[Celery, Advertiser] = {}


class ModelStep(bootsteps.Step):
    """Loads the model while the worker is being built, before it connects to Redis.

    Here and not in ``start``: the signal handlers of the warm shutdown are not yet in place, so
    that SIGTERM and Ctrl-C end a worker that is still loading at once.
    """

    def __init__(self, worker: Any, **options: Any) -> None:
        try:
            settings = Settings.read(os.environ, options)
            device = _take_queues(worker)
            encoder, device_name = _load(settings, device)
        except SettingsError as error:
            refuse(str(error))
        task: Any = worker.app.tasks[ENCODE_TASK]
        type(task).encoder = encoder
        _advertisers[worker.app].advert = Advert(
            node=worker.hostname,
            instance=uuid.uuid4().hex,
            queues=sorted(worker.app.amqp.queues.consume_from),
            device=device.queue if device else "default",
            device_name=device_name,
            model=encoder.name,
            fingerprint=encoder.fingerprint,
            max_seq_len=encoder.max_seq_len,
            max_batch_size=encoder.max_batch_size,
            pooling_strategy=encoder.pooling_strategy,
            pooling_layer=list(encoder.pooling_layers),
            row_shape=list(encoder.row_shape),
            dtype=encoder.dtype,
            pid=os.getpid(),
            started=time.time(),
            versions=_versions(),
        )
        super().__init__(worker, **options)


def refuse(reason: str) -> NoReturn:
    """End the worker before it has started: one line, exit status 1."""
    log.critical("this worker cannot start: %s", reason)
    raise SystemExit(1)


def _name_node(worker: Any) -> None:
    # Two workers on one machine would both be celery@host; call them gpu0@host, gpu1@host. A name
    # that the user gave with -n stays.
    if worker.hostname == default_nodename(""):
        named = [name for name in _option("queues") if queues.parse_device(name)]
        name = named[0] if named else f"{queues.SHARED}-{os.getpid()}"
        worker.hostname = f"{name}@{gethostname()}"


def _option(name: str) -> list[str]:
    # Celery keeps -Q and -X to itself until the queues are selected; the command line knows them.
    context = click.get_current_context(silent=True)
    value = context.params.get(name) if context else None
    return list(value or [])


def _take_queues(worker: Any) -> queues.Device | None:
    """Check the worker's queues and options; add the shared queues to a device's."""
    if not (isinstance(worker.pool_cls, type) and issubclass(worker.pool_cls, SoloPool)):
        raise SettingsError(
            f"pool {worker.pool_cls.__module__} cannot run the graph: leave out -P/--pool, and "
            "start one worker for each device"
        )
    if worker.concurrency != 1:
        log.warning("--concurrency %s: one graph runs one chunk at a time", worker.concurrency)
        worker.concurrency = 1
    selected = worker.app.amqp.queues
    device = queues.device_of(list(selected.consume_from))
    if device is not None:
        for name in {queues.SHARED, queues.SMALL}.difference(_option("exclude_queues")):
            selected.select_add(name)
    if not selected.consume_from:
        raise SettingsError("-X leaves no queue to take from")
    return device


def _load(settings: Settings, device: queues.Device | None) -> "tuple[Encoder, str]":
    if settings.model_dir is None:
        raise SettingsError(
            "no model: give --model-dir DIR or BERTQ_MODEL_DIR, a directory in the layout of "
            "Google's BERT releases or of Hugging Face"
        )
    devices.pin(device, os.environ)
    if device is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        log.info("queue %s: CUDA_VISIBLE_DEVICES=%s", device.queue, visible)
    started = time.perf_counter()
    try:
        device_name = devices.configure(settings.threads)
        from bertq_bert import ModelError, load_encoder
    except ImportError as error:
        install = "install the worker with pip install 'bertq[worker]'"
        raise SettingsError(f"{error}: {install}") from None
    if device_name == "cpu" and device is not None and device.kind == "gpu":
        log.warning("queue %s: no GPU is to be seen, this worker runs on the CPU", device.queue)
    try:
        encoder = load_encoder(
            settings.model_dir,
            max_seq_len=settings.max_seq_len,
            max_batch_size=settings.max_batch_size,
            pooling_strategy=settings.pooling_strategy,
            pooling_layers=settings.pooling_layer,
            dtype=settings.dtype,
        )
    except ModelError as error:
        raise SettingsError(str(error)) from None
    encoder.warm_up()
    log.info(
        "model %s on %s: %s of layers %s, max_seq_len %d, %s; ready after %.1f s",
        encoder.name, device_name, encoder.pooling_strategy, list(encoder.pooling_layers),
        encoder.max_seq_len, encoder.dtype, time.perf_counter() - started,
    )  # fmt: skip
    return encoder, device_name


def _versions() -> dict[str, str]:
    return {
        "bertq": bertq.__version__,
        "celery": celery.__version__,
        "tensorflow": version("tensorflow"),
        "python": platform.python_version(),
    }
