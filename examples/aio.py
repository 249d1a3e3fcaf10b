"""One event loop: many requests at once, a stream, and a request that is given up.

``encode_async`` returns at once, and what it returns can be awaited. Nothing blocks the loop.

Run a service, then the script::

    bertq serve --model-dir DIR
    python examples/aio.py --requests 100
"""

import argparse
import asyncio
from collections.abc import AsyncIterator

from bertq import BertClient


async def many_requests(client: BertClient, count: int) -> None:
    """Send many requests, as the users of a web service would, and wait for all of them."""
    answers = await asyncio.gather(
        *(client.encode_async([f"this is user {user}", "hello"]) for user in range(count))
    )
    print(f"gather: {len(answers)} requests, vectors {answers[0].shape} each")


async def messages() -> AsyncIterator[str]:
    """Yield sentences that come from elsewhere, one after another."""
    for number in range(100):
        await asyncio.sleep(0)
        yield f"message {number}"


async def stream(client: BertClient) -> None:
    """Encode what comes from an asynchronous source."""
    async for batch in client.encode_stream_async(messages(), batch_size=40):
        print(f"stream: from message {batch.start}, vectors {batch.vectors.shape}")


async def give_up(client: BertClient) -> None:
    """Wait for a large request for a moment only: it is cancelled, and the client goes on."""
    request = client.encode_async([f"one of very many, {number}" for number in range(20_000)])
    try:
        async with asyncio.timeout(0.01):
            await request
    except TimeoutError:
        print(f"timeout: given up, cancelled: {request.cancelled()}")
    vectors = await client.encode_async(["and another one"])
    print(f"after it: vectors {vectors.shape}")


async def main(requests: int) -> None:
    """Show the three, one after another, with one client."""
    async with BertClient() as client:
        await many_requests(client, requests)
        await stream(client)
        await give_up(client)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Encode in coroutines.")
    parser.add_argument("--requests", type=int, default=100)
    asyncio.run(main(parser.parse_args().requests))
