"""The machine and the software of a measurement."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bertq
from bertq.system import cores

_PACKAGES = (
    "bertq", "tensorflow", "tensorflow-cpu", "celery", "kombu", "redis", "numpy", "tokenizers",
)  # fmt: skip


def context(packages: Iterable[str] = ()) -> dict[str, str]:
    """Return the machine, the software and the date as text.

    Args:
        packages: further distributions to list with their versions.
    """
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    found = {
        "machine": f"{cpu()}, {cores.available()} cores, {memory_gib():.0f} GiB; load {load}",
        "gpu": ", ".join(gpus()) or "none",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(
            f"{name} {number}" for name, number in versions([*_PACKAGES, *packages]).items()
        ),
        "commit": commit() or "not in a checkout",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return found


def cpu() -> str:
    """Return the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def memory_gib() -> float:
    """Return the main memory, in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that this process may use."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = [name.strip() for name in visible.split(",")]
        rows = [row for row in rows if row[0] in chosen or row[1] in chosen]
    return [f"{name}, {memory}" for _, _, name, memory in rows]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed ones among some distributions."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit of the checkout that bertq runs from, or None without a checkout."""
    package = Path(bertq.__file__).resolve().parent
    top = _git(package, "rev-parse", "--show-toplevel")
    # A virtual environment may be inside the checkout of another project.
    if top is None or Path(top, "bertq") != package:
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    return f"{_git(package, 'rev-parse', '--short', 'HEAD')}{' with changes' if changed else ''}"


def _git(directory: Path, *arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "-C", directory, *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
