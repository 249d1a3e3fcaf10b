"""The instruction sets of this machine's CPU."""

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


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
