"""Pinning to a device, as a process sees it."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from bertq.errors import SettingsError
from bertq.protocol.queues import Device
from bertq_workers.startup import cuda, devices


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
def test_the_environment_of_the_process(
    device: Device | None, given: str | None, visible: str | None
) -> None:
    environ = {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    devices.pin(device, environ)
    assert environ.get("CUDA_VISIBLE_DEVICES") == visible
    is_gpu = device is not None and device.kind == "gpu"
    assert (environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID") == is_gpu


def test_more_gpus_than_there_are() -> None:
    with pytest.raises(SettingsError, match=r"gpu2 .* CUDA_VISIBLE_DEVICES=4,5 has only 2"):
        devices.pin(Device("gpu", 2), {"CUDA_VISIBLE_DEVICES": "4,5"})


class Driver:
    """The functions of libcuda.so.1 that are called, for GPUs of given sizes in bytes."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def __call__(self, name: str) -> "Driver":
        assert name == "libcuda.so.1"
        return self

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return 0 if self.sizes else 100  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0 if index < len(self.sizes) else 101  # CUDA_ERROR_INVALID_DEVICE

    def cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:
        size._obj.value = self.sizes[device.value]
        return 0


def test_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Driver(80 << 30, 24 << 30))
    assert [cuda.memory(index) for index in range(3)] == [80 << 30, 24 << 30, None]
    monkeypatch.setattr(ctypes, "CDLL", Driver())
    assert cuda.memory(0) is None
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # a driver without these functions
    assert cuda.memory(0) is None
    monkeypatch.undo()
    monkeypatch.setattr(cuda, "_DRIVER", "no-such-library.so")
    assert cuda.memory(0) is None


# TensorFlow sees GPUs that do not exist; its reaction to their settings is real.
SCRIPT = """
import os, sys
from bertq.errors import SettingsError
from bertq.protocol.queues import Device
from bertq_workers import tasks
from bertq_workers.startup import devices, steps as startup
assert "tensorflow" not in sys.modules, "TensorFlow came before the pin"
devices.pin(Device("cpu", 0), os.environ)
hardware = devices.configure(threads=3)
assert "keras" not in sys.modules and "TF_USE_LEGACY_KERAS" not in os.environ
import tensorflow as tf
found = tf.config.list_physical_devices("GPU")
print(hardware.name, hardware.lanes, hardware.ahead, found, os.environ["CUDA_VISIBLE_DEVICES"])
print(tf.config.threading.get_intra_op_parallelism_threads())
print(tf.config.threading.get_inter_op_parallelism_threads())

from tensorflow.python.eager import context
gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(2)]
inside = context.context()
inside._physical_devices += gpus
inside._memory_growth_map.update(dict.fromkeys(gpus))
tf.config.experimental.get_device_details = lambda _: {"device_name": "H100"}
devices.cuda.memory = lambda index: None
try:
    devices.configure(1, memory_fraction=0.25)
except SettingsError as error:
    print(error)
devices.cuda.memory = [(80 << 30) - 1, 24 << 30].__getitem__
hardware = devices.configure(1, 2, 0.25)
print(hardware.name, hardware.lanes, hardware.ahead)
print(tf.config.threading.get_inter_op_parallelism_threads())
print([tf.config.get_logical_device_configuration(gpu)[0].memory_limit for gpu in gpus])
print(os.environ["TF_FORCE_GPU_ALLOW_GROWTH"])
try:
    devices.configure(1)
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    """The output of the script, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tensorflow_comes_after_the_pin_and_sees_no_gpu(said: list[str]) -> None:
    assert said[:3] == ["cpu 3 0 [] -1", "1", "3"]


def test_a_share_of_the_memory_of_each_gpu(said: list[str]) -> None:
    assert said[3:] == [
        "gpu_memory_fraction is 0.25, and NVIDIA's driver does not report the memory of GPU 0: "
        "leave the setting out",
        "H100 2 1",
        "3",
        f"[{20 * 1024 - 1}, {6 * 1024}]",
        "true",
        # Why the other way of taking no more than is needed is not used.
        "Cannot set memory growth on device when virtual devices configured",
    ]


@pytest.mark.parametrize("gpus", [[], ["GPU:0"]])
def test_memory_of_the_device(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    asked: list[str] = []

    def info(device: str) -> dict[str, int]:
        asked.append(device)
        return {"current": 5, "peak": 7}

    experimental = SimpleNamespace(get_memory_info=info)
    config = SimpleNamespace(list_logical_devices=lambda _: gpus, experimental=experimental)
    fake: Any = SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    assert devices.memory() == ((5, 7) if gpus else None)
    assert asked == gpus
    # Nothing imports TensorFlow before a model is loaded.
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert devices.memory() is None
    assert "tensorflow" not in sys.modules
