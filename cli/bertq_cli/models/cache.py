"""The user's cache of downloaded models."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from bertq.errors import BertqError


class ModelUnavailable(BertqError):
    """A model cannot be downloaded."""


def root() -> Path:
    """Return the directory of all downloaded models."""
    return user_cache_path("bertq") / "models"


@contextmanager
def scratch_for(directory: Path) -> Iterator[Path]:
    """Yield a directory for a download, from which ``publish`` can rename it to ``directory``.

    Raises:
        ModelUnavailable: the cache cannot be written to.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-")
    except OSError as error:
        raise ModelUnavailable(
            f"the cache {directory.parent} cannot be written to: {error.strerror}. The variable "
            "XDG_CACHE_HOME moves it"
        ) from None
    with scratch as path:
        try:
            yield Path(path)
        except OSError as error:
            raise ModelUnavailable(f"{directory} cannot be written: {error.strerror}") from None


def publish(downloaded: Path, directory: Path) -> None:
    """Rename a complete download to its directory: other processes see all of it or nothing."""
    shutil.rmtree(directory, ignore_errors=True)
    try:
        downloaded.rename(directory)
    except OSError:
        if not directory.is_dir():  # otherwise another process was faster
            raise


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
