"""A window into a host: what connects to a socket of this machine is connected to an address there.

Usage: ``python -m tests.hosts.window FD HOST PORT``, run on that host, with a socket that listens
and was made elsewhere: a socket stays in the network in which it was made. So a test looks into
Redis while its host is cut off.
"""

import asyncio
import socket
import sys
from contextlib import suppress


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    server = await asyncio.start_server(connected, sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    _fd, _host, _port = sys.argv[1:]
    asyncio.run(_serve(socket.socket(fileno=int(_fd)), _host, int(_port)))
