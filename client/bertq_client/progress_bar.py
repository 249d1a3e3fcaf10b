"""Progress bars, in a terminal or a notebook."""

from collections.abc import Generator, Iterable, Sized
from typing import Any

from bertq_client.futures import EncodeFuture
from bertq_client.streaming.stream import Batch

#: Seconds between two looks at a request.
_EVERY = 0.1


def open_bar(total: int | None, *, initial: int = 0, shown: bool = True) -> Any:
    """Return a bar of sentences; of an unknown number of them for None.

    Args:
        total: how many there are.
        initial: how many were done before.
        shown: False for a bar that nobody sees.
    """
    # Here: importing tqdm takes a tenth of a second, which few requests need.
    from tqdm.auto import tqdm

    return tqdm(
        total=total, initial=initial, unit="sentence", unit_scale=True, dynamic_ncols=True,
        disable=not shown,
    )  # fmt: skip


def open_reading(size: int | None, *, shown: bool) -> Any:
    """Return a bar of the bytes of a file; it only shows where reading takes a while."""
    from tqdm.auto import tqdm

    return tqdm(
        total=size, desc="checking", unit="B", unit_scale=True, dynamic_ncols=True, delay=1.0,
        leave=False, disable=not shown,
    )  # fmt: skip


def watch(future: EncodeFuture) -> Any:
    """Wait for a request, and show how far it is; return its vectors."""
    with open_bar(future.progress.total) as shown:
        while True:
            try:
                value = future.result(_EVERY)
            except TimeoutError:
                if future.done():  # the request's own error, or it was answered just now
                    return future.result()
                shown.update(future.progress.done - shown.n)
            else:
                shown.update(future.progress.total - shown.n)
                return value


def count(batches: Iterable[Batch], source: Iterable[Any]) -> Generator[Batch, None, None]:
    """Pass batches on, and show how many sentences they had."""
    with open_bar(len(source) if isinstance(source, Sized) else None) as shown:
        for batch in batches:
            shown.update(len(batch.texts))
            yield batch
