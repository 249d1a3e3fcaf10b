"""Which dtypes a device speeds up."""

import logging
from pathlib import Path
from typing import Any

import pytest

from bertq.config.settings import Settings
from bertq_bert.cpu import instructions
from bertq_workers.startup import devices, loading
from bertq_workers.startup.hardware import Hardware


@pytest.mark.parametrize(
    ("device", "dtype", "faster"),
    [
        (Hardware("cpu", instructions=frozenset({"avx2"})), "float32", True),
        (Hardware("cpu", instructions=frozenset({"avx2", "avx512f"})), "bfloat16", False),
        (Hardware("cpu", instructions=frozenset({"avx512_bf16"})), "bfloat16", True),
        (Hardware("cpu", instructions=frozenset({"amx_bf16"})), "bfloat16", True),
        (Hardware("cpu", instructions=frozenset({"amx_bf16"})), "float16", False),
        (Hardware("cpu", instructions=frozenset({"avx512_fp16"})), "float16", True),
        (Hardware("cpu"), "bfloat16", True),
        (Hardware("Tesla M40", 1, (5, 2)), "float16", False),
        (Hardware("Tesla V100", 1, (7, 0)), "float16", True),
        (Hardware("Tesla V100", 1, (7, 0)), "bfloat16", False),
        (Hardware("Tesla V100", 1, (7, 0)), "tf32", False),
        (Hardware("cpu", instructions=frozenset({"amx_bf16"})), "tf32", False),
        (Hardware("H100", 1, (9, 0)), "tf32", True),
        (Hardware("H100", 1, (9, 0)), "bfloat16", True),
        (Hardware("some gpu"), "float16", True),
    ],
)
def test_which_dtypes_it_speeds_up(device: Hardware, dtype: str, faster: bool) -> None:
    assert device.speeds_up(dtype) is faster


def test_instructions_of_a_machine(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor : 1\nflags : x\n")
    assert instructions(path) == {"fpu", "avx2", "amx_bf16"}
    path.write_text("processor : 0\nFeatures : fp asimd bf16\n")
    assert instructions(path) == {"fp", "asimd", "bf16"}
    path.write_text("nothing")
    assert instructions(path) == frozenset()
    assert instructions(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(("known", "warned"), [({"avx2"}, True), ({"avx512_bf16"}, False)])
def test_settings_without_effect_are_a_warning(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    known: set[str],
    warned: bool,
) -> None:
    def configure(threads: Any, concurrency: Any, memory_fraction: Any) -> Hardware:
        assert memory_fraction == 0.5
        return Hardware("cpu", 3, instructions=frozenset(known))

    monkeypatch.setattr(devices, "configure", configure)
    settings = Settings(model_dir=str(tiny_model), dtype="bfloat16", gpu_memory_fraction=0.5)
    caplog.set_level(logging.WARNING, "bertq.worker")
    source = loading.read(settings, None)
    encoder, hardware = loading.build(source, settings, None)
    assert (encoder.dtype, encoder.lanes, hardware.name) == ("bfloat16", 3, "cpu")
    assert ("does not compute faster in bfloat16" in caplog.text) is warned
    assert "gpu_memory_fraction 0.5 has no effect: this worker runs on the CPU" in caplog.text
