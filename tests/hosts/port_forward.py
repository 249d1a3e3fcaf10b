"""Forward connections to a socket of this machine to an address on a host.

Usage: ``python -m tests.hosts.port_forward FD HOST PORT``, run on that host, with a listening
socket that was made outside: a socket belongs to the network in which it was made. A test can
therefore read Redis while the host of Redis is cut off.
"""

import asyncio
import socket
import sys
from contextlib import suppress


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, until the end or an error; then close the writer."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(listening: socket.socket, host: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(connected, sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    _fd, _host, _port = sys.argv[1:]
    asyncio.run(_serve(socket.socket(fileno=int(_fd)), _host, int(_port)))
