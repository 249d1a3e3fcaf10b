"""Peak speeds of the machine: of large products in each dtype, and of reading its memory.

``measure_peak`` runs this module as a program in a process of its own, because a process of the
command has no TensorFlow: ``DEVICE_KIND THREADS DTYPE...``.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bertq.errors import BertqError

#: Rows and columns of the factors: large enough for the full speed of a core, or of a GPU.
_SIZE = {"cpu": 2048, "gpu": 8192}
#: Larger than every cache.
_ARRAY_BYTES = 1 << 29
#: Time of each measurement.
_SECONDS = 0.5


class PeakFailed(BertqError):
    """The speed of the machine cannot be measured."""


@dataclass(frozen=True)
class Peak:
    """Speeds of a machine.

    Attributes:
        flops: operations per second in products of a dtype, by dtype.
        bytes: bytes per second that are read from memory.
    """

    flops: Mapping[str, float]
    bytes: float

    def __str__(self) -> str:
        products = ", ".join(
            f"products in {dtype} {flops / 1e9:,.0f} GFLOP/s" for dtype, flops in self.flops.items()
        )
        return f"{products}, reads {self.bytes / 1e9:,.0f} GB/s"

    def better(self, other: "Peak") -> "Peak":
        """Return the higher speeds of two measurements."""
        flops = {dtype: max(value, other.flops[dtype]) for dtype, value in self.flops.items()}
        return Peak(flops, max(self.bytes, other.bytes))

    def share(self, dtype: str, flops: float) -> str:
        """Return operations per second with their share of the machine's, as text."""
        share = f" ({flops / self.flops[dtype]:.0%})" if dtype in self.flops else ""
        return f"{flops / 1e9:,.0f}{share}"


def measure_peak(device_kind: str, threads: int, dtypes: Sequence[str]) -> Peak:
    """Measure the speed of a device in a process of its own, which takes some seconds.

    Args:
        device_kind: ``cpu`` or ``gpu``.
        threads: of a CPU.
        dtypes: the dtypes of the products.

    Raises:
        PeakFailed: TensorFlow is not installed, or cannot use the device.
    """
    program = [sys.executable, "-m", "bertq_cli.bench.peak", device_kind, str(threads), *dtypes]
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if device_kind == "cpu":
        environ["CUDA_VISIBLE_DEVICES"] = "-1"
    done = subprocess.run(
        program, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last_line = "".join(done.stderr.strip().splitlines()[-1:])
        raise PeakFailed(f"the speed of this machine cannot be measured: {last_line}")
    return Peak(**json.loads(done.stdout))


def main(device_kind: str, threads: str, *dtypes: str) -> None:
    """Measure, and print the speeds as JSON."""
    from bertq_bert.tensorflow_import import import_tensorflow

    tf = import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    tf.config.experimental.enable_tensor_float_32_execution(False)  # as workers do
    size = _SIZE[device_kind]
    operations = 2 * size**3
    flops = {}
    with tf.device(device_kind):
        for dtype in dtypes:
            factor = tf.cast(tf.random.uniform([size, size]), dtype)

            def multiply(factor: object = factor) -> None:
                tf.matmul(factor, factor)[0, 0].numpy()  # waits for a GPU

            flops[dtype] = operations / _fastest_seconds(multiply)
        array = tf.ones([_ARRAY_BYTES // 4])
        read = _ARRAY_BYTES / _fastest_seconds(lambda: tf.reduce_sum(array).numpy())
    print(json.dumps({"flops": flops, "bytes": read}))


def _fastest_seconds(call: Callable[[], object]) -> float:
    call()
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    while not seconds or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
