"""Progress bars, in a terminal or a notebook."""

from collections.abc import Generator, Iterable, Sized
from typing import Any

from bertq_client.futures import EncodeFuture
from bertq_client.streaming.stream import Batch

#: Seconds between two updates of a request's bar.
_UPDATE_INTERVAL_SECONDS = 0.1


def open_bar(total: int | None, *, initial: int = 0, is_shown: bool = True) -> Any:
    """Return a progress bar that counts sentences.

    Args:
        total: number of sentences; None if it is unknown.
        initial: number of sentences that were done before.
        is_shown: False for an invisible bar.
    """
    # Imported here: importing tqdm takes a tenth of a second, and few requests need it.
    from tqdm.auto import tqdm

    return tqdm(
        total=total, initial=initial, unit="sentence", unit_scale=True, dynamic_ncols=True,
        disable=not is_shown,
    )  # fmt: skip


def open_bytes_bar(size: int | None, *, is_shown: bool) -> Any:
    """Return a progress bar that counts bytes of a file; it appears only if reading is slow."""
    from tqdm.auto import tqdm

    return tqdm(
        total=size, desc="checking", unit="B", unit_scale=True, dynamic_ncols=True, delay=1.0,
        leave=False, disable=not is_shown,
    )  # fmt: skip


def watch(future: EncodeFuture) -> Any:
    """Wait for a request while showing its progress; return its vectors."""
    with open_bar(future.progress.total) as bar:
        while True:
            try:
                value = future.result(_UPDATE_INTERVAL_SECONDS)
            except TimeoutError:
                if future.done():  # the request timed out, or was answered just now
                    return future.result()
                bar.update(future.progress.done - bar.n)
            else:
                bar.update(future.progress.total - bar.n)
                return value


def count_sentences(
    batches: Iterable[Batch], source: Iterable[Any]
) -> Generator[Batch, None, None]:
    """Pass batches on while showing the number of their sentences."""
    with open_bar(len(source) if isinstance(source, Sized) else None) as bar:
        for batch in batches:
            bar.update(len(batch.texts))
            yield batch
