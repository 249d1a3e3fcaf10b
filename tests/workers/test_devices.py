"""Pinning to a device, as a process sees it."""

import subprocess
import sys

import pytest

from bertq.errors import SettingsError
from bertq.queues import Device
from bertq_workers import devices


@pytest.mark.parametrize(
    ("device", "given", "visible"),
    [
        (Device("gpu", 0), None, "0"),
        (Device("gpu", 3), None, "3"),
        (Device("gpu", 0), "5,7", "5"),
        (Device("gpu", 1), "5, 7", "7"),
        (Device("gpu", 1), "GPU-aaaa,GPU-bbbb", "GPU-bbbb"),
        (Device("gpu", 0), "-1", "-1"),
        (Device("gpu", 0), "", ""),
        (Device("cpu", 0), None, "-1"),
        (Device("cpu", 2), "0,1", "-1"),
        (None, None, None),
        (None, "1", "1"),
    ],
)
def test_what_the_process_sees(
    device: Device | None, given: str | None, visible: str | None
) -> None:
    environ = {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    devices.pin(device, environ)
    assert environ.get("CUDA_VISIBLE_DEVICES") == visible
    is_gpu = device is not None and device.kind == "gpu"
    assert (environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID") == is_gpu


def test_more_gpus_than_there_are() -> None:
    with pytest.raises(SettingsError, match=r"gpu2 .* CUDA_VISIBLE_DEVICES=4,5 .* names 2"):
        devices.pin(Device("gpu", 2), {"CUDA_VISIBLE_DEVICES": "4,5"})


SCRIPT = """
import os, sys
from bertq.queues import Device
from bertq_workers import devices, startup, tasks
assert "tensorflow" not in sys.modules, "TensorFlow came before the pin"
devices.pin(Device("cpu", 0), os.environ)
hardware = devices.configure(threads=3)
import tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
print(hardware.name, hardware.lanes, gpus, os.environ["CUDA_VISIBLE_DEVICES"])
print(tf.config.threading.get_intra_op_parallelism_threads())
print(tf.config.threading.get_inter_op_parallelism_threads())
"""


def test_tensorflow_comes_after_the_pin_and_sees_no_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.splitlines() == ["cpu 3 [] -1", "1", "3"], done.stderr
