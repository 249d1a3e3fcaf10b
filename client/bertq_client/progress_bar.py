"""Progress bars, in a terminal or a notebook."""

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Sized
from concurrent.futures import wait
from contextlib import closing, contextmanager
from typing import Any

from bertq_client.futures import EncodeFuture
from bertq_client.streaming.stream import Batch, RequestStream

#: Seconds between two updates of a request's bar.
_UPDATE_INTERVAL_SECONDS = 0.1

#: Seconds after which a bar without progress is drawn again, with the new time.
_REDRAW_INTERVAL_SECONDS = 0.5

#: Seconds before a bar appears. Most errors come earlier, and then it never does.
_DELAY_SECONDS = 0.5

#: Like tqdm's own format, which would print slow rates as "1.25s/ sentences".
_FORMAT = "{l_bar}{bar}| {n:,}/{total:,} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_FORMAT_WITHOUT_TOTAL = "{n:,}{unit} [{elapsed}, {rate_noinv_fmt}]"


class Bar:
    """A progress bar.

    Args:
        bar: the bar of tqdm; None for an invisible one.
    """

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar
        self._drawn_at = time.time()

    def show(self, done: int) -> None:
        """Show how much is done; move the clock if nothing has changed."""
        if self._is_invisible:
            return
        if self._bar.update(done - self._bar.n):
            self._drawn_at = time.time()
        elif time.time() - max(self._drawn_at, self._begins_at) >= _REDRAW_INTERVAL_SECONDS:
            self._draw()

    def finish(self) -> None:
        """Show a bar that was too quick to appear."""
        if not self._is_invisible and not self.is_drawn:
            self._draw()

    @property
    def _is_invisible(self) -> bool:
        return self._bar is None or self._bar.disable  # by the variable TQDM_DISABLE

    @property
    def is_drawn(self) -> bool:
        """Whether the bar has appeared."""
        return bool(self._bar.last_print_t >= self._begins_at)

    @property
    def _begins_at(self) -> float:
        begins_at: float = self._bar.start_t + self._bar.delay
        return begins_at

    def _draw(self) -> None:
        self._bar.refresh()
        self._drawn_at = time.time()
        # By this time, tqdm knows whether to end the bar's line.
        self._bar.last_print_t = max(self._drawn_at, self._begins_at)


class _LineBreaks(logging.Filter):
    """Clears the line of a bar before a message; the next update draws the bar below it."""

    def __init__(self, bar: Bar, tqdm_bar: Any) -> None:
        super().__init__()
        self._bar = bar
        self._tqdm_bar = tqdm_bar

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every message pass."""
        if self._bar.is_drawn:
            self._tqdm_bar.clear()
        return True


@contextmanager
def open_bar(
    total: int | None, *, initial: int = 0, is_shown: bool = True, unit: str = "sentences"
) -> Iterator[Bar]:
    """Show a progress bar that counts sentences, or other units.

    It appears after ``_DELAY_SECONDS``, or when all is done; not if an error comes earlier.

    Args:
        total: number of sentences; None if it is unknown.
        initial: number of sentences that were done before.
        is_shown: False for an invisible bar.
        unit: what the bar counts.
    """
    if not is_shown:
        yield Bar()
        return
    # Imported here: importing tqdm takes a tenth of a second, and few requests need it.
    from tqdm.auto import tqdm

    with tqdm(
        total=total, initial=initial, unit=f" {unit}", unit_scale=True, dynamic_ncols=True,
        delay=_DELAY_SECONDS,
        bar_format=_FORMAT_WITHOUT_TOTAL if total is None else _FORMAT,
    ) as tqdm_bar:  # fmt: skip
        bar = Bar(tqdm_bar)
        line_breaks = _LineBreaks(bar, tqdm_bar)
        log = logging.getLogger("bertq.client")
        log.addFilter(line_breaks)
        try:
            yield bar
            bar.finish()
        finally:
            log.removeFilter(line_breaks)


@contextmanager
def open_bytes_bar(size: int | None, *, is_shown: bool) -> Iterator[Bar]:
    """Show a progress bar that counts bytes of a file; it appears only if reading is slow."""
    if not is_shown:
        yield Bar()
        return
    from tqdm.auto import tqdm

    with tqdm(
        total=size, desc="checking", unit="B", unit_scale=True, dynamic_ncols=True, delay=1.0,
        leave=False,
    ) as tqdm_bar:  # fmt: skip
        yield Bar(tqdm_bar)


def watch(future: EncodeFuture) -> Any:
    """Wait for a request while showing its progress; return its vectors."""
    with open_bar(future.progress.total) as bar:
        while not wait([future], _UPDATE_INTERVAL_SECONDS).done:
            bar.show(future.progress.done)
        if future.cancelled() or future.exception() is not None:
            return future.result()  # raises the error
        bar.show(future.progress.total)
    return future.result()  # the bar is closed, and a warning gets a line of its own


def watch_stream(requests: RequestStream, source: Iterable[Any]) -> Generator[Batch, None, None]:
    """Return the batches of a stream while showing the number of their sentences."""
    with (
        open_bar(len(source) if isinstance(source, Sized) else None) as bar,
        closing(requests.batches(source)) as batches,
    ):
        requests.report = bar.show
        taken = 0
        for batch in batches:
            taken += len(batch.texts)
            bar.show(taken)
            yield batch
