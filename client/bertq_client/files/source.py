"""The input of a run: a file, a compressed file, or standard input."""

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bertq.errors import BadInputValue
from bertq_client.files.line import LineFormat, Sentence

#: Path that means standard input.
STDIN = "-"

#: Most bytes of a line: a longer one is surely a mistake, and would have to fit into memory.
_MAX_LINE_BYTES = 64 * 1024 * 1024

#: Lines between two reports of the bytes read.
_REPORT_INTERVAL_LINES = 4096

#: Line numbers, from 1, with the sentence of each line; None for a blank line.
Lines = Generator[tuple[int, Sentence | None], None, None]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Identity:
    """The properties that identify an input.

    Attributes:
        bytes: its size, uncompressed.
        digest: BLAKE2b of the uncompressed bytes, in hexadecimal.
        lines: number of lines.
        sentences: number of lines that are not blank.
    """

    bytes: int
    digest: str
    lines: int
    sentences: int


class TextSource:
    """The lines of an input.

    Args:
        path: path of the file, or ``-`` for standard input.
        line_format: format of a line.
        allow_blank: whether lines may be blank.

    Attributes:
        name: name for messages.
        is_regular: whether the input can be read more than once.
        identity: identity found by ``check``; ``read`` checks that the input still has it.
    """

    def __init__(self, path: str, line_format: LineFormat, *, allow_blank: bool) -> None:
        self._path = None if path == STDIN else Path(path)
        self._format = line_format
        self._allow_blank = allow_blank
        self.name = "standard input" if self._path is None else str(self._path)
        with self._explain_errors():
            self.is_regular = self._path is not None and self._path.is_file()
        self.identity: Identity | None = None
        self._bytes = 0
        self._hash = hashlib.blake2b(digest_size=32)

    @property
    def size(self) -> int | None:
        """Bytes to read, if known in advance."""
        if self._path is None or not self.is_regular or self._is_compressed:
            return None
        with suppress(OSError):  # reading the file will report the error
            return self._path.stat().st_size
        return None

    def check(self, report: Callable[[int], object]) -> None:
        """Read the input once and check each line; skip an input that cannot be read again.

        Args:
            report: called at intervals with the number of bytes read.

        Raises:
            BadInputValue: the input cannot be read, a line is invalid, or there is no sentence.
        """
        if not self.is_regular:
            return
        lines = sentences = 0
        for lines, sentence in self._read_lines():
            sentences += sentence is not None
            if lines % _REPORT_INTERVAL_LINES == 0:
                report(self._bytes)
        if not sentences:
            raise self.empty()
        self.identity = Identity(self._bytes, self._hash.hexdigest(), lines, sentences)

    def read(self) -> Lines:
        """Return the number of each line, from 1, and its sentence; None for a blank line.

        Raises:
            BadInputValue: as ``check``; or the input has changed since the check.
        """
        yield from self._read_lines()
        known = self.identity
        if known and (known.bytes, known.digest) != (self._bytes, self._hash.hexdigest()):
            raise BadInputValue(
                f"{self.name} changed while it was read: encode it again with overwrite"
            )

    def empty(self) -> BadInputValue:
        """Return the error that the input has no sentence."""
        return BadInputValue(f"{self.name} has no line that is not blank: nothing to encode")

    def _line_error(self, number: int, reason: object) -> BadInputValue:
        """Return the error for a line."""
        return BadInputValue(f"{self.name}, line {number}: {reason}")

    def _read_lines(self) -> Iterator[tuple[int, Sentence | None]]:
        self._bytes, self._hash = 0, hashlib.blake2b(digest_size=32)
        for number, raw in enumerate(self._raw_lines(), 1):
            if len(raw) > _MAX_LINE_BYTES:
                raise self._line_error(number, f"it has more than {_MAX_LINE_BYTES} bytes")
            self._bytes += len(raw)
            self._hash.update(raw)
            try:
                sentence = self._format.sentence(raw.removeprefix(_BOM) if number == 1 else raw)
            except BadInputValue as error:
                raise self._line_error(number, error) from None
            if sentence is None and not self._allow_blank:
                raise self._line_error(
                    number,
                    "it is blank (blank zero makes it a row of zeros, skip leaves it out)",
                )
            yield number, sentence

    def _raw_lines(self) -> Iterator[bytes]:
        with self._explain_errors(), self._open() as file:
            while raw := file.readline(_MAX_LINE_BYTES + 1):
                yield raw

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise BadInputValue(f"{self.name} cannot be read: {reason or error}") from None

    @property
    def _is_compressed(self) -> bool:
        return self._path is not None and self._path.suffix == ".gz"

    @contextmanager
    def _open(self) -> Iterator[BinaryIO | io.BufferedReader]:
        if self._path is None:
            if sys.stdin is None:
                raise BadInputValue("standard input is closed: give the path of a file")
            yield sys.stdin.buffer
            return
        with self._path.open("rb") as file:
            if self._is_compressed:
                with gzip.open(file) as inner, io.BufferedReader(inner, 1 << 20) as reader:
                    yield reader
            else:
                yield file


def kind_of(path: str, given: str | None) -> str:
    """Return the format of an input: ``given``, or by default the one that its name implies."""
    if given is not None:
        return given
    name = Path(path.removesuffix(".gz"))
    return "jsonl" if name.suffix in (".jsonl", ".ndjson") else "text"
