"""Running the application."""

import os
import signal
import socket
import sys

import uvicorn

from bertq.errors import SettingsError
from bertq_gateway.app import create
from bertq_gateway.config import Config


def listen(config: Config) -> socket.socket:
    """Return the socket that a gateway listens on.

    Raises:
        SettingsError: the address is taken, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server(
            (config.host, config.port), family=family, backlog=config.max_connections
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(f"--host {config.host} --port {config.port}: {reason}") from None


def make(config: Config) -> uvicorn.Server:
    """Return a server of the application; ``should_exit`` ends it, as a signal does."""
    settings = uvicorn.Config(
        create(config),
        lifespan="on",
        log_level="warning",
        access_log=False,  # a line a request would be most of the work
        server_header=False,
        limit_concurrency=config.max_connections,
        timeout_graceful_shutdown=config.drain,
        ssl_certfile=config.certfile,
        ssl_keyfile=config.keyfile,
    )
    return uvicorn.Server(settings)


def run(config: Config, sock: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first."""
    # uvicorn raises the signal that has ended it once more, for whoever had a handler before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    make(config).run(sockets=[sock])
