"""A process with many clients: ``python -m benchmarks.clients.sender URL CLIENTS``.

Each client sends one sentence after another, at its own rate. It reads commands from standard input
and answers on standard output, a line of JSON each.
"""

import asyncio
import json
import random
import sys
import time

from bertq_client import BertClient

_TEXT = "the word of the Lord came unto me saying {} {}"
_TIMEOUT_SECONDS = 120.0


async def send_at_rate(
    client: BertClient, number: int, period_seconds: float, begin: float, end: float
) -> list[float]:
    """Send a sentence in each period, from one moment to another; return the seconds of each.

    The moments are random, so that clients are independent of each other.
    """
    chosen, found = random.Random(number), []
    at, count = begin + chosen.uniform(0, period_seconds), 0
    while at < end:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        sent = time.monotonic()
        await client.encode_async([_TEXT.format(number, count)])
        found.append(time.monotonic() - sent)
        at, count = at + chosen.uniform(0, 2 * period_seconds), count + 1
    return found


async def main(url: str, count: int) -> None:
    """Run commands until standard input ends."""
    clients = [
        BertClient(redis_url=url, timeout=_TIMEOUT_SECONDS, check_length=False)
        for _ in range(count)
    ]
    for number, client in enumerate(clients):
        await client.encode_async([_TEXT.format(number, -1)])  # connects
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        times = (command["period_seconds"], command["begin"], command["end"])
        found = await asyncio.gather(
            *(
                send_at_rate(client, command["first"] + number, *times)
                for number, client in enumerate(clients)
            )
        )
        print(json.dumps([seconds for part in found for seconds in part]), flush=True)
    for client in clients:
        client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
