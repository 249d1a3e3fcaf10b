"""TLS in front of a server without TLS, with certificates of a test authority."""

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import trustme

Certificate = tuple[Path, Path]


class Authority:
    """Issues certificates as files.

    Attributes:
        file: its own certificate, for clients to trust.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._ca = trustme.CA()
        self._directory = directory
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str) -> Certificate:
        """Return the files of a certificate for a host or a client, and of its key."""
        issued = self._ca.issue_cert(name)
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


class Proxy:
    """Accepts TLS on a port and forwards the plain text to a server of this machine."""

    def __init__(
        self, target: int, certificate: Certificate, clients: Path | None = None, port: int = 0
    ) -> None:
        """``clients`` is the authority that must have issued the certificates of clients."""
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[
            self._run(started)
        ])  # fmt: skip
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        """Close all connections and the port."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connect(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", self.port, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_forward(reader, outer), _forward(inner, writer))
        finally:
            # Without a TLS shutdown, which a dead peer would not answer.
            outer.transport.abort()
            writer.transport.abort()


async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()
