"""The server of the application."""

import gc
import os
import signal
import socket
from collections.abc import Callable

import uvicorn

from bertq.errors import SettingsError
from bertq_gateway.app import create
from bertq_gateway.config import Config


def listen(config: Config) -> socket.socket:
    """Return the socket that a gateway listens on.

    Raises:
        SettingsError: the address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server(
            (config.host, config.port), family=family, backlog=config.max_connections
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(f"--host {config.host} --port {config.port}: {reason}") from None


def make_server(config: Config) -> uvicorn.Server:
    """Return a server of the application; setting ``should_exit`` ends it, as a signal does."""
    settings = uvicorn.Config(
        create(config),
        lifespan="on",
        log_level="warning",
        access_log=False,  # a line for each request would be most of the work
        server_header=False,
        limit_concurrency=config.max_connections,
        timeout_keep_alive=config.keep_alive_seconds,
        timeout_graceful_shutdown=config.drain_seconds,
        ssl_certfile=config.certfile,
        ssl_keyfile=config.keyfile,
    )
    return uvicorn.Server(settings)


def run(config: Config, sock: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the requests in progress.

    Args:
        config: the settings.
        sock: socket of ``listen``.
        on_ready: called once the signal handlers are installed.
    """
    server: uvicorn.Server | None = None
    is_stopping = False

    # Set a flag instead of raising an exception. If Python is running an internal callback, as in
    # an import, it prints and discards the exception, and the signal is lost. uvicorn later
    # installs its own handlers, and raises the signal again after it has is_stopping.
    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        if server is not None:
            server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    on_ready()
    server = make_server(config)
    # Garbage collections would visit all objects of the application each time, which stops all
    # requests for up to 50 ms.
    gc.freeze()
    if not is_stopping:
        server.run(sockets=[sock])
