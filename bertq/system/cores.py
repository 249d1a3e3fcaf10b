"""How many cores there are."""

import os


def available() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # where the system tells (Linux)
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(workers: int) -> list[int]:
    """Deal the cores out to workers, at least one to each: their thread pools do not fight."""
    cores = available()
    return [max(1, cores // workers + (number < cores % workers)) for number in range(workers)]
