"""Pinning a worker process to one device.

``pin`` runs before TensorFlow is imported: CUDA reads ``CUDA_VISIBLE_DEVICES`` once, when it is
loaded. ``configure`` runs right after the import, before TensorFlow touches a device.
"""

from collections.abc import MutableMapping

from bertq import cores
from bertq.errors import SettingsError
from bertq.queues import Device
from bertq_workers.hardware import Hardware, instructions


def pin(device: Device | None, environ: MutableMapping[str, str]) -> None:
    """Let the process see its own device only.

    Args:
        device: from the worker's queues; None leaves the choice to TensorFlow.
        environ: the environment of this process. If it names GPUs already, ``gpu<N>`` is the N-th
            of those.

    Raises:
        SettingsError: the environment names fewer GPUs than that.
    """
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if device is None:
        return
    if device.kind == "cpu":
        environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return
    # Numbers as nvidia-smi shows them, not fastest first.
    environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        environ["CUDA_VISIBLE_DEVICES"] = str(device.index)
        return
    # CUDA ignores what follows the first invalid entry; -1 is the usual way to say "none".
    visible = [name for name in (part.strip() for part in given.split(",")) if name]
    if "-1" in visible:
        visible = visible[: visible.index("-1")]
    if not visible:
        return
    if device.index >= len(visible):
        raise SettingsError(
            f"queue {device.queue} asks for GPU number {device.index} of those that "
            f"CUDA_VISIBLE_DEVICES={given} names, and it names {len(visible)}"
        )
    environ["CUDA_VISIBLE_DEVICES"] = visible[device.index]


def configure(threads: int | None, concurrency: int = 1) -> Hardware:
    """Import TensorFlow, grow GPU memory on demand, deal the CPU's threads out.

    Args:
        threads: CPU threads of the graph; None takes all cores that the process may use.
        concurrency: batches that run at the same time on a GPU. On a CPU there is one for each
            thread at least: a core that has a batch of its own waits for no other.

    Returns:
        What the graph will run on.
    """
    import tensorflow as tf

    count = threads or cores.available()
    gpus = tf.config.list_physical_devices("GPU")
    lanes = concurrency if gpus else max(concurrency, count)
    tf.config.threading.set_intra_op_parallelism_threads(count if gpus else 1)
    tf.config.threading.set_inter_op_parallelism_threads(lanes)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return Hardware("cpu", lanes, instructions=instructions())
    details = tf.config.experimental.get_device_details(gpus[0])
    name = str(details.get("device_name", "gpu"))
    return Hardware(name, lanes, details.get("compute_capability"))
