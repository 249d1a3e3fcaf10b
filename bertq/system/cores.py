"""The CPU cores of this machine, and their division among workers."""

import os


def available() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # available on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def divide(workers: int) -> list[int]:
    """Divide the cores among workers, at least one each, so that thread pools do not compete."""
    cores = available()
    return [max(1, cores // workers + (number < cores % workers)) for number in range(workers)]
