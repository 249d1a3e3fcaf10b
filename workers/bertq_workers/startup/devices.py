"""Pinning of a worker process to one device.

``pin`` runs before TensorFlow is imported, because CUDA reads ``CUDA_VISIBLE_DEVICES`` once, when
it is loaded. ``configure`` runs right after the import, before TensorFlow uses a device.
"""

import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from bertq.errors import SettingsError
from bertq.protocol.queues import Device
from bertq.system import cores
from bertq_bert.cpu import instructions
from bertq_bert.tensorflow_import import import_tensorflow
from bertq_workers.observability import stderr_relay, tensorflow_lines
from bertq_workers.startup import cuda
from bertq_workers.startup.hardware import Hardware

#: TensorFlow's variable for the lowest level of its C++ log, and the level for errors.
_LOG_LEVEL, _ERRORS_ONLY = "TF_CPP_MIN_LOG_LEVEL", "2"


def pin(device: Device | None, environ: MutableMapping[str, str]) -> None:
    """Make only the worker's own device visible to the process.

    Args:
        device: from the worker's queues; None leaves the choice to TensorFlow.
        environ: the environment of this process. If it already names GPUs, ``gpu<N>`` is the N-th
            of those.

    Raises:
        SettingsError: the environment names too few GPUs.
    """
    environ.setdefault(_LOG_LEVEL, _ERRORS_ONLY)
    if device is None:
        return
    if device.kind == "cpu":
        environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return
    # Number the GPUs as nvidia-smi does, instead of the fastest first.
    environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        environ["CUDA_VISIBLE_DEVICES"] = str(device.index)
        return
    # CUDA ignores everything after the first invalid entry; -1 is the usual way to say "none".
    visible = [name for name in (part.strip() for part in given.split(",")) if name]
    if "-1" in visible:
        visible = visible[: visible.index("-1")]
    if not visible:
        return
    if device.index >= len(visible):
        raise SettingsError(
            f"queue {device.queue} asks for GPU number {device.index}, and "
            f"CUDA_VISIBLE_DEVICES={given} has only {len(visible)}, counted from 0"
        )
    environ["CUDA_VISIBLE_DEVICES"] = visible[device.index]


@contextmanager
def quiet_tensorflow(device: Device | None) -> Iterator[None]:
    """Remove noise from standard error while TensorFlow is imported and finds its devices.

    Real errors remain. If the user has set ``TF_CPP_MIN_LOG_LEVEL``, so does everything else.
    """
    if os.environ.get(_LOG_LEVEL) != _ERRORS_ONLY:
        yield
        return
    # If a GPU was requested or has a driver, its errors are of interest.
    has_gpu = cuda.is_installed() if device is None else device.kind == "gpu"
    original, end_relay = stderr_relay.start(tensorflow_lines.__file__, "gpu" if has_gpu else "cpu")
    try:
        yield
    finally:
        sys.stderr.flush()
        end_relay()
        os.close(original)


def configure(
    threads: int | None, concurrency: int = 1, memory_fraction: float | None = None
) -> Hardware:
    """Import TensorFlow, let GPU memory grow on demand, and distribute the CPU threads.

    Args:
        threads: CPU threads of the graph; None uses all cores available to the process.
        concurrency: batches that run at the same time on a GPU. A CPU runs at least one batch for
            each thread: a core with its own batch does not wait for other cores.
        memory_fraction: share of the GPU's memory that the process may use; None sets no limit.

    Returns:
        The hardware that the graph will run on.

    Raises:
        SettingsError: a share was requested, and the driver does not report the GPU's memory.
    """
    tf = import_tensorflow()
    count = threads or cores.available()
    gpus = tf.config.list_physical_devices("GPU")
    lanes = concurrency if gpus else max(concurrency, count)
    tf.config.threading.set_intra_op_parallelism_threads(count if gpus else 1)
    ahead = 1 if gpus else 0
    tf.config.threading.set_inter_op_parallelism_threads(lanes + ahead)
    for index, gpu in enumerate(gpus):
        if memory_fraction is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            _limit_memory(tf, gpu, index, memory_fraction)
    if not gpus:
        return Hardware("cpu", lanes, instructions=instructions())
    details = tf.config.experimental.get_device_details(gpus[0])
    name = str(details.get("device_name", "gpu"))
    return Hardware(name, lanes, details.get("compute_capability"), ahead=ahead)


def memory() -> tuple[int, int] | None:
    """Return the bytes of GPU memory that TensorFlow uses now, and the most that it has used.

    Return None if the graph runs on the CPU. Call it only after the graph is built: it would
    initialize the devices.
    """
    tf: Any = sys.modules.get("tensorflow")
    if tf is None or not tf.config.list_logical_devices("GPU"):
        return None
    info = tf.config.experimental.get_memory_info("GPU:0")
    return info["current"], info["peak"]


def _limit_memory(tf: Any, gpu: Any, index: int, share: float) -> None:
    total = cuda.memory(index)
    if total is None:
        raise SettingsError(
            f"gpu_memory_fraction is {share:g}, and NVIDIA's driver does not report the memory of "
            f"GPU {index}: leave the setting out"
        )
    # With a limit, TensorFlow refuses set_memory_growth and would allocate all of the share at
    # once.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    limit = max(1, int(total * share) >> 20)
    tf.config.set_logical_device_configuration(
        gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit)]
    )
