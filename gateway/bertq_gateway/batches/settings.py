"""Settings of files and batches."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertq.errors import SettingsError
from bertq.protocol import time_to_live
from bertq.redis.retry import pauses

#: Seconds between two attempts while workers, Redis or the disk cannot be used.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 15.0


def retry_pauses() -> Iterator[float]:
    """Return the pauses in seconds between attempts, without end."""
    return pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True)
class BatchSettings:
    """Where files and batches are stored, and their limits.

    Attributes:
        directory: the directory; several gateways may share it.
        max_file_bytes: maximum size of an uploaded file.
        quota_bytes: maximum size of all files of an API key.
        lease_seconds: until another gateway continues the batches of one that has died.
        poll_seconds: interval in which a gateway looks for batches of other gateways.
        commit_seconds: interval in which the progress of a batch is saved.
        block_texts: texts that are sent to the workers at once, four times for each batch.
    """

    directory: Path
    max_file_bytes: int = 1024**3
    quota_bytes: int = 20 * 1024**3
    lease_seconds: int = time_to_live.WORKER_SECONDS
    poll_seconds: float = 5.0
    commit_seconds: float = 1.0
    block_texts: int = 1024

    def check(self) -> None:
        """Create the directory if it does not exist, and check that files can be created in it.

        Raises:
            SettingsError: the directory cannot be used.
        """
        probe = self.directory / f".{secrets.token_hex(8)}"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise SettingsError(f"--batch-dir {self.directory}: {reason}") from None
