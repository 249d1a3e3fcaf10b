"""Detection of the hardware, and of the dtypes that it computes faster than float32."""

from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

#: Linux names of the instructions with which oneDNN multiplies in a dtype (x86; bf16 is ARM's).
_INSTRUCTIONS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16"},
}

#: Compute capability of the first NVIDIA GPUs with tensor cores for a dtype.
_CAPABILITY = {"bfloat16": (8, 0), "float16": (7, 0)}


@dataclass(frozen=True)
class Hardware:
    """A device as TensorFlow reports it.

    Attributes:
        name: ``cpu``, or the name of the GPU.
        lanes: batches that run on it at the same time.
        capability: NVIDIA's compute capability of a GPU, if known.
        instructions: instruction sets of a CPU; empty if the system does not report them.
    """

    name: str
    lanes: int = 1
    capability: tuple[int, int] | None = None
    instructions: frozenset[str] = frozenset()

    def speeds_up(self, dtype: str) -> bool:
        """Return whether computing in ``dtype`` is faster; True if that is unknown."""
        if dtype not in _INSTRUCTIONS:
            return True
        if self.name != "cpu":
            return self.capability is None or self.capability >= _CAPABILITY[dtype]
        return not self.instructions or bool(self.instructions & _INSTRUCTIONS[dtype])


def instructions(path: Path = _CPUINFO) -> frozenset[str]:
    """Return the instruction sets of this machine's CPU; empty if they cannot be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
