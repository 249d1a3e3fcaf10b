"""TLS in front of a server that has none, with certificates of an authority of the tests' own."""

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import trustme

Certificate = tuple[Path, Path]


class Authority:
    """Issues certificates, and keeps them in files.

    Attributes:
        file: its own certificate, which those trust who connect.
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
    """Speaks TLS on a port of 127.0.0.1 and hands on what it hears to a server of that machine."""

    def __init__(
        self, target: int, certificate: Certificate, clients: Path | None = None, port: int = 0
    ) -> None:
        """``clients`` is the authority whose certificates clients must have."""
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
        """Hang up."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        conversations: set[asyncio.Task[None]] = set()

        def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._converse(reader, writer))
            conversations.add(task)
            task.add_done_callback(conversations.discard)

        server = await asyncio.start_server(meet, "127.0.0.1", self.port, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in list(conversations):
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_hand_on(reader, outer), _hand_on(inner, writer))
        finally:
            # At once: a peer that is gone answers no farewell.
            outer.transport.abort()
            writer.transport.abort()


async def _hand_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()
