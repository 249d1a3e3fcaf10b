"""Loading of the model in two steps: fast checks and reading, then the graph on the device."""

import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bertq.config.settings import Settings
from bertq.errors import SettingsError
from bertq.protocol.queues import Device
from bertq_bert.compile_cache import CompileCache, log_errors
from bertq_workers.startup import devices, process

if TYPE_CHECKING:
    from bertq_bert import Encoder, Source
    from bertq_workers.startup.hardware import Hardware

log = logging.getLogger("bertq.worker")

#: Steps of the start. ``bertq serve`` sets ``BERTQ_LOG_LOADING`` to get them at any log level.
steps_log = logging.getLogger("bertq.worker.loading")

_INSTALL = "install the worker with pip install 'bertq[worker]'"


def read(settings: Settings, device: Device | None) -> "Source":
    """Pin the device and read the model into main memory.

    Raises:
        SettingsError: there is no model, or it cannot be used with these settings.
    """
    if settings.model_dir is None:
        raise SettingsError(
            "no model: give --model-dir DIR or BERTQ_MODEL_DIR, a directory in the layout of "
            "sentence-transformers, of Hugging Face or of Google's BERT releases"
        )
    devices.pin(device, os.environ)
    if device is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        log.info("queue %s: CUDA_VISIBLE_DEVICES=%s", device.queue, visible)
    if importlib.util.find_spec("tensorflow") is None:
        raise SettingsError(f"TensorFlow is not installed: {_INSTALL}")
    try:
        from bertq_bert import ModelError, read_source
    except ImportError as error:
        raise SettingsError(f"{error}: {_INSTALL}") from None
    if os.environ.get("BERTQ_LOG_LOADING"):
        steps_log.setLevel(logging.INFO)
    steps_log.info("loading: reading the model")
    try:
        with devices.quiet_tensorflow(device):  # it reads checkpoints of TensorFlow
            return read_source(
                settings.model_dir,
                tuned_model_dir=settings.tuned_model_dir,
                ckpt_name=settings.ckpt_name,
                config_name=settings.config_name,
                compat=settings.compat,
                max_seq_len=settings.max_seq_len,
                max_batch_size=settings.max_batch_size,
                pooling_strategy=settings.pooling_strategy,
                pooling_layers=settings.pooling_layer,
                num_labels=settings.num_labels,
                dtype=settings.dtype,
                int8_ranges=settings.int8_ranges,
                cased=settings.cased,
                mask_cls_sep=settings.mask_cls_sep,
                no_special_token=settings.no_special_token,
                no_position_embeddings=settings.no_position_embeddings,
            )
    except ModelError as error:
        raise SettingsError(str(error)) from None


def build(
    source: "Source", settings: Settings, device: Device | None, concurrency: int = 1
) -> "tuple[Encoder, Hardware]":
    """Build the graph on the device, to run ``concurrency`` batches at once, and warm it up.

    Returns:
        The encoder, and what it runs on.

    Raises:
        SettingsError: TensorFlow cannot be imported, cannot be limited to its share of the memory,
            or cannot compute with the weights in this dtype.
        OutOfMemory: the device has too little memory for the model.
    """
    share = settings.gpu_memory_fraction
    cache = _open_compile_cache(settings, device)
    steps_log.info("loading: starting TensorFlow")
    try:
        with devices.quiet_tensorflow(device):
            hardware = devices.configure(settings.threads, concurrency, share)
        from bertq_bert import Encoder
        from bertq_bert.errors import BadOption
    except ImportError as error:
        raise SettingsError(f"{error}: {_INSTALL}") from None
    if hardware.name == "cpu" and device is not None and device.kind == "gpu":
        log.warning("queue %s: no GPU found, this worker runs on the CPU", device.queue)
    if hardware.name == "cpu" and share is not None:
        log.warning("gpu_memory_fraction %g has no effect: this worker runs on the CPU", share)
    if not hardware.speeds_up(settings.dtype):
        log.warning(
            "%s does not compute faster in %s than in float32; use --dtype float32 unless "
            "memory is short",
            hardware.name, settings.dtype,
        )  # fmt: skip
    steps_log.info("loading: building the graph")
    try:
        encoder = Encoder.build(
            source, lanes=hardware.lanes, compiles=settings.compile, cache=cache
        )
        encoder.warm_up(_log_warm_up)
    except BadOption as error:
        raise SettingsError(str(error)) from None
    process.trim()
    return encoder, hardware


def _open_compile_cache(settings: Settings, device: Device | None) -> CompileCache | None:
    """Open the cache of compiled functions before TensorFlow is imported."""
    if settings.compile_cache is None:
        return None
    is_cpu = device is not None and device.kind == "cpu"
    if settings.compile is False or (is_cpu and not settings.compile):
        log.warning(
            "compile_cache %s has no effect: this worker compiles nothing; add --compile",
            settings.compile_cache,
        )
        return None
    path = Path(settings.compile_cache)
    with log_errors(path):
        cache = CompileCache(path)
        cache.enable(os.environ)
        return cache
    return None


def _log_warm_up(step: int, steps: int, rows: int, length: int) -> None:
    steps_log.info("loading: warming up, %d of %d (%d x %d tokens)", step, steps, rows, length)
