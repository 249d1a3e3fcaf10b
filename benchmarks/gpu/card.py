"""Finding the GPU, or the reason why TensorFlow sees none."""

import json
import os
import re
import subprocess
import sys

import click

from bertq_workers.startup import cuda

_PROBE = """
import json, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
names = [found.get("device_name", "gpu") for found in details]
print(json.dumps([tf.test.is_built_with_cuda(), names]))
"""


def find_card() -> str:
    """Return the name of the first GPU.

    Raises:
        ClickException: TensorFlow finds no GPU; the message gives the reason.
    """
    if not cuda.is_installed():
        raise _missing("NVIDIA's driver (libcuda.so.1) is not installed, install it")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env={**os.environ, **quiet}, capture_output=True, text=True
    )
    if done.returncode:
        (*_, error) = ["no error", *done.stderr.strip().splitlines()]
        raise _missing(f"it cannot be imported ({error})")
    has_cuda, names = json.loads(done.stdout.splitlines()[-1])
    if not names:
        raise _missing(explain_no_gpu(has_cuda, os.environ.get("CUDA_VISIBLE_DEVICES")))
    return str(names[0])


def explain_no_gpu(has_cuda: bool, visible: str | None) -> str:
    """Return the reason for which TensorFlow finds no GPU, with a driver installed, and a remedy.

    Args:
        has_cuda: whether TensorFlow is built with CUDA.
        visible: ``CUDA_VISIBLE_DEVICES``, if it is set.
    """
    if not has_cuda:
        return "it is built without CUDA, install bertq's extra 'gpu'"
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}, unset it"
    return "CUDA's libraries are missing or do not fit the driver, install bertq's extra 'gpu'"


def file_name(card: str) -> str:
    """Return the name of the files with the results of a card."""
    return "gpu-" + re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")


def _missing(reason: str) -> click.ClickException:
    return click.ClickException(f"TensorFlow finds no GPU: {reason}; or give --device cpu")
