"""What XLA has compiled, on disk."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bertq_bert.compile_cache import CompileCache


def opened(directory: Path, max_bytes: int = 1000) -> tuple[CompileCache, Path]:
    """Open a cache, and return it with the directory that TensorFlow uses."""
    cache = CompileCache(directory, max_bytes)
    environ = {"TF_XLA_FLAGS": "--given"}
    cache.enable(environ)
    given, flag, _ = environ["TF_XLA_FLAGS"].split()
    assert given == "--given"
    return cache, Path(flag.partition("=")[2])


def test_compiled_functions_are_stored(tmp_path: Path) -> None:
    first, made = opened(tmp_path)
    second, _ = opened(tmp_path)
    assert first.load(device="a") == second.load(device="a") == 0
    (made / "one.pb").write_bytes(b"1")
    first.store()
    (made / "two.pb").write_bytes(b"2")
    first.store()
    assert second.load(device="b") == 0
    first.close()
    assert not made.exists()
    third, used = opened(tmp_path)
    assert third.load(device="a") == 2
    assert {path.name: path.read_bytes() for path in used.glob("*.pb")} == {
        "one.pb": b"1",
        "two.pb": b"2",
    }
    third.store()
    assert len(list(tmp_path.rglob("*.one.pb"))) == 1


def test_damaged_functions_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, made = opened(tmp_path)
    cache.load(device="a")
    (made / "one.pb").write_bytes(b"1")
    cache.store()
    (stored,) = tmp_path.rglob("*.one.pb")
    stored.write_bytes(b"0")
    (stored.parent / "foreign").write_bytes(b"0")
    assert opened(tmp_path)[0].load(device="a") == 0
    assert f"removed {stored} from the compile cache: it is damaged" in caplog.text
    assert not stored.exists()


def test_the_oldest_functions_are_removed(tmp_path: Path) -> None:
    cache, made = opened(tmp_path, max_bytes=25)
    cache.load(device="a")
    for number in range(4):
        (made / f"{number}.pb").write_bytes(bytes(10))
        cache.store()
    left = {path.name[-4:] for path in tmp_path.rglob("*.pb") if "entries" in path.parts}
    assert len(left) == 2
    assert "3.pb" in left


def test_a_cache_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, made = opened(tmp_path)
    (tmp_path / "entries").write_text("a file")
    assert cache.load(device="a") == 0
    (made / "one.pb").write_bytes(b"1")
    cache.store()
    assert f"the compile cache {tmp_path} cannot be used" in caplog.text
    with pytest.raises(NotADirectoryError):
        CompileCache(tmp_path / "entries" / "x")


def test_directories_of_killed_processes_are_removed(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from bertq_bert.compile_cache import CompileCache\n"
        f"cache = CompileCache(Path({str(tmp_path)!r})); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    (left,) = (tmp_path / "runs").iterdir()
    cache, made = opened(tmp_path)
    assert not left.exists()
    assert made.exists()
    opened(tmp_path)
    assert made.exists(), "the directory of a running process"
    cache.close()


def test_directories_of_processes_killed_at_their_start_are_removed(tmp_path: Path) -> None:
    old, new = (tmp_path / "runs" / name for name in ("old", "new"))
    for directory in (old, new):
        directory.mkdir(parents=True)  # not locked yet
    os.utime(old, (time.time() - 3600,) * 2)
    opened(tmp_path)
    assert not old.exists()
    assert new.exists()
