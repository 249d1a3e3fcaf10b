"""The network compiled by XLA for batches of fixed shapes.

XLA compiles some 600 operations to a few kernels, and needs a second or more for each shape of a
batch. So batches are padded to a few shapes, and a thread compiles these, the most used shape
first. Until a shape is compiled, the caller computes its batches without XLA.
"""

import atexit
import logging
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bertq_bert.checkpoint import Array
from bertq_bert.cpu import instructions
from bertq_bert.network.padding import LANES, TokenPlaces, flatten, round_up, widen
from bertq_bert.tokenizing.sequences import marks

log = logging.getLogger("bertq.worker")

#: Maximum shapes that a process compiles. Each takes some megabytes of memory.
MAX_SHAPES = 64

#: Maximum multiple of its tokens and slots to which a batch is padded while its own shape is not
#: compiled.
_MAX_PADDING = 1.5

#: Maximum consecutive errors; then no further shape is compiled.
_MAX_ERRORS = 3

#: Maximum seconds that the end of the process waits for a running compilation.
_EXIT_SECONDS = 60.0


class Shape(NamedTuple):
    """A shape of a batch."""

    rows: int
    tokens: int  # of all rows together
    longest: int  # tokens to which attention pads each row

    @classmethod
    def around(cls, rows: int, tokens: int, longest: int, max_longest: int) -> "Shape":
        """Return the shape to which batches of this size are padded.

        Each of its numbers is at most 1.25 of that of the batch.
        """
        slots = LANES * round_up(-(-longest // LANES))
        return cls(round_up(rows), round_up(max(tokens, LANES)), min(slots, max_longest))

    def fits(self, other: "Shape") -> bool:
        """Return whether ``other`` can be padded to this shape without too much padding."""
        if any(size < wanted for size, wanted in zip(self, other, strict=True)):
            return False
        slots, wanted = self.rows * self.longest, other.rows * other.longest
        return self.tokens <= _MAX_PADDING * other.tokens and slots <= _MAX_PADDING * wanted


@dataclass(frozen=True)
class CompileStats:
    """Statistics of compilations.

    Attributes:
        shapes: number of compiled shapes.
        seconds: duration of all compilations together.
        errors: number of shapes that could not be compiled.
        waiting: number of shapes that have occurred in batches and are not compiled yet.
    """

    shapes: int
    seconds: float
    errors: int
    waiting: int = 0


class CompiledNetwork:
    """Compiled functions for several shapes; thread-safe.

    Attributes:
        on_start: called by the compiling thread before the first compilation.
        on_compiled: called by the compiling thread after each successful compilation.
    """

    def __init__(self, function: Any, max_longest: int, *, max_shapes: int = MAX_SHAPES) -> None:
        """Prepare to compile; the thread starts with the first batch.

        Args:
            function: computes rows from ids [N], marks [N], and the arrays of ``TokenPlaces``. At
                the first call with a shape of these, XLA compiles it.
            max_longest: maximum T.
            max_shapes: maximum number of shapes to compile.
        """
        self._function = function
        self._max_longest = max_longest
        self._max_shapes = max_shapes
        self.on_start: Callable[[], object] = lambda: None
        self.on_compiled: Callable[[], object] = lambda: None
        self._changed = threading.Condition()
        self._uses: Counter[Shape] = Counter()  # of shapes that are not compiled yet
        self._ready: set[Shape] = set()
        self._failed: set[Shape] = set()
        self._seconds = 0.0
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def choose(self, rows: int, tokens: int, longest: int) -> Shape | None:
        """Return a compiled shape for a batch of this size; None if no compiled shape fits.

        If the shape for this size is not compiled, the call counts as a use of it, and requests its
        compilation.
        """
        wanted = Shape.around(rows, tokens, longest, self._max_longest)
        with self._changed:
            if wanted in self._ready:
                return wanted
            if self._can_compile() and wanted not in self._failed:
                self._uses[wanted] += 1
                self._start()
                self._changed.notify()
            fitting = [shape for shape in self._ready if shape.fits(wanted)]
        return min(
            fitting, key=lambda shape: (shape.tokens, shape.rows * shape.longest), default=None
        )

    def __call__(self, shape: Shape, ids: Sequence[Sequence[int]]) -> Array:
        """Compute a batch, padded to a shape.

        Returns:
            The rows of the batch, followed by rows of padding.
        """
        places = TokenPlaces.of(np.fromiter(map(len, ids), np.int32, len(ids)), *shape)
        arrays = flatten(ids, shape.tokens), widen(marks(ids), shape.tokens), *places
        rows: Array = self._function(*map(tf.constant, arrays)).numpy()
        return rows

    def stats(self) -> CompileStats:
        """Return statistics of the compilations until now."""
        with self._changed:
            waiting = len(self._uses) if self._can_compile() else 0
            return CompileStats(len(self._ready), self._seconds, len(self._failed), waiting)

    def close(self) -> None:
        """Stop compiling, and wait until a running compilation has ended."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_EXIT_SECONDS)

    def _can_compile(self) -> bool:
        tried = len(self._ready) + len(self._failed)
        return not self._is_closed and tried < self._max_shapes

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bertq-compiler", daemon=True)
            self._thread.start()
            # The process must not end while XLA's threads run.
            atexit.register(self.close)

    def _run(self) -> None:
        self.on_start()
        errors = 0
        while (shape := self._wait_for_shape()) is not None:
            started = time.monotonic()
            try:
                self(shape, [[0]])  # a batch of one token and padding
            except Exception as error:
                errors += 1
                self._record(shape, time.monotonic() - started, is_ready=False)
                log.warning("cannot compile %s: %s", _describe(shape), _first_line(error))
                if errors == _MAX_ERRORS:
                    log.warning("no further shapes are compiled; batches of others take longer")
                    with self._changed:
                        self._is_closed = True
            else:
                errors = 0
                seconds = time.monotonic() - started
                self._record(shape, seconds, is_ready=True)
                log.info("compiled %s in %.1f s", _describe(shape), seconds)
                self.on_compiled()

    def _wait_for_shape(self) -> Shape | None:
        """Wait for a shape to compile.

        Returns:
            The most used shape that is not compiled; None when no more shapes may be compiled.
        """
        with self._changed:
            while self._can_compile():
                if self._uses:
                    return self._uses.most_common(1)[0][0]
                self._changed.wait()
        return None

    def _record(self, shape: Shape, seconds: float, *, is_ready: bool) -> None:
        with self._changed:
            del self._uses[shape]
            (self._ready if is_ready else self._failed).add(shape)
            self._seconds += seconds


def describe_device() -> str:
    """Return the properties of the device on which compiled functions depend.

    These are the details of a GPU, or the instruction sets of the CPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(sorted(tf.config.experimental.get_device_details(gpus[0]).items()))
    return str(sorted(instructions()) or platform.platform())


def _describe(shape: Shape) -> str:
    return f"a batch of {shape.rows} rows, {shape.tokens} tokens, at most {shape.longest} in a row"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
