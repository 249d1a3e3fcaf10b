"""Detection of the hardware, and of the dtypes that it computes faster than float32."""

from dataclasses import dataclass

#: Linux names of the instructions with which oneDNN multiplies in a dtype (x86; bf16 is ARM's).
_INSTRUCTIONS: dict[str, set[str]] = {
    "tf32": set(),
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16"},
}

#: Compute capability of the first NVIDIA GPUs with tensor cores for a dtype.
_CAPABILITY = {"tf32": (8, 0), "bfloat16": (8, 0), "float16": (7, 0)}


@dataclass(frozen=True)
class Hardware:
    """A device as TensorFlow reports it.

    Attributes:
        name: ``cpu``, or the name of the GPU.
        lanes: batches that run on it at the same time.
        ahead: full batches that it gets while it computes others, so that it need not wait for the
            next one. On a CPU, their preparation would take time from the lanes.
        capability: NVIDIA's compute capability of a GPU, if known.
        instructions: instruction sets of a CPU; empty if the system does not report them.
    """

    name: str
    lanes: int = 1
    capability: tuple[int, int] | None = None
    instructions: frozenset[str] = frozenset()
    ahead: int = 0

    def speeds_up(self, dtype: str) -> bool:
        """Return whether computing in ``dtype`` is faster; True if that is unknown."""
        if dtype not in _INSTRUCTIONS:
            return True
        if self.name != "cpu":
            return self.capability is None or self.capability >= _CAPABILITY[dtype]
        return not self.instructions or bool(self.instructions & _INSTRUCTIONS[dtype])
