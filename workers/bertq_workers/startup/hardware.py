"""What the graph runs on, and which dtypes that computes faster than float32."""

from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

#: Instructions, as Linux names them, that oneDNN multiplies in a dtype with (x86; bf16 is ARM's).
_INSTRUCTIONS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16"},
}

#: Compute capability of the first NVIDIA GPUs whose tensor cores take a dtype.
_CAPABILITY = {"bfloat16": (8, 0), "float16": (7, 0)}


@dataclass(frozen=True)
class Hardware:
    """A device as TensorFlow sees it.

    Attributes:
        name: ``cpu``, or the GPU's own name.
        lanes: batches that run on it at the same time.
        capability: NVIDIA's compute capability of a GPU, where it is known.
        instructions: what a CPU can do; empty where the system does not tell.
    """

    name: str
    lanes: int = 1
    capability: tuple[int, int] | None = None
    instructions: frozenset[str] = frozenset()

    def speeds_up(self, dtype: str) -> bool:
        """Return whether it is known, or can be hoped, to compute faster in ``dtype``."""
        if dtype not in _INSTRUCTIONS:
            return True
        if self.name != "cpu":
            return self.capability is None or self.capability >= _CAPABILITY[dtype]
        return not self.instructions or bool(self.instructions & _INSTRUCTIONS[dtype])


def instructions(path: Path = _CPUINFO) -> frozenset[str]:
    """Return the instruction sets of this machine's CPU; empty where they are not to be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
