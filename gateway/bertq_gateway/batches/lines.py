"""The lines of an input file: a request in each."""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bertq.protocol import surrogates
from bertq_gateway.batches.objects import ENDPOINT, LineProblem

#: Maximum number of requests in a file.
MAX_REQUESTS = 1_000_000

#: Maximum number of problems that are reported about a file.
MAX_PROBLEMS = 100

#: Maximum number of characters of a ``custom_id``.
MAX_ID_CHARACTERS = 512

#: The beginning of a file of gzip.
_GZIP = b"\x1f\x8b"

#: Lines that are checked in one step.
_STEP_LINES = 1000


@dataclass(frozen=True)
class RequestLine:
    """A request of a batch.

    Attributes:
        number: number of the line, from 1.
        end: where the next line begins, in bytes.
        custom_id: the caller's name of the request.
        body: the body of the request, any JSON.
    """

    number: int
    end: int
    custom_id: str
    body: Any


class LineReader:
    """Reads the lines of a file.

    Args:
        file: the file, at the beginning of a line.
        max_bytes: maximum length of a line.
        number: number of the line before.

    Attributes:
        number: number of the line that was read last.
        position: where the next line begins.
    """

    def __init__(self, file: IO[bytes], max_bytes: int, number: int = 0) -> None:
        self.number = number
        self.position = file.tell()
        self._file = file
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        """Return the lines that are not blank, at most one byte longer than allowed."""
        while raw := self._read():
            self.number += 1
            piece = raw
            while piece and not piece.endswith(b"\n"):
                piece = self._read()
            if not raw.isspace():
                yield raw

    def _read(self) -> bytes:
        raw = self._file.readline(self._max_bytes + 1)
        self.position += len(raw)
        return raw

    def requests(self) -> Iterator[RequestLine]:
        """Return the requests of a file that has been checked."""
        for raw in self:
            custom_id, body = _parse(raw, self._max_bytes)
            yield RequestLine(self.number, self.position, custom_id, body)

    def blocks(self, max_texts: int, max_bytes: int) -> Iterator[list[RequestLine]]:
        """Return the requests of a file that has been checked, many at once.

        Args:
            max_texts: texts after which a block ends.
            max_bytes: bytes after which a block ends.
        """
        block: list[RequestLine] = []
        texts, begin = 0, self.position
        for line in self.requests():
            given = line.body.get("input") if isinstance(line.body, dict) else None
            block.append(line)
            texts += len(given) if isinstance(given, list) else 1
            if texts >= max_texts or line.end - begin >= max_bytes:
                yield block
                block, texts, begin = [], 0, line.end
        if block:
            yield block

    def ids(self, problems: list[LineProblem]) -> Iterator[str | None]:
        """Return the ``custom_id`` of each line; None for a line that has a problem.

        Args:
            problems: the problems are added to it.
        """
        for raw in self:
            try:
                yield _parse(raw, self._max_bytes)[0]
            except _InvalidLine as error:
                _add(problems, error.code, str(error), self.number, error.param)
                yield None


class FileCheck:
    """Checks an input file before its requests are sent.

    Args:
        path: the file.
        max_line_bytes: maximum length of a line.

    Attributes:
        count: number of requests.
        problems: what is wrong with the file; empty if it can be used.
    """

    def __init__(self, path: Path, max_line_bytes: int) -> None:
        self.count = 0
        self.problems: list[LineProblem] = []
        self._path = path
        self._max_line_bytes = max_line_bytes

    def steps(self) -> Iterator[None]:
        """Check the file in steps of some milliseconds.

        Raises:
            OSError: the file cannot be read.
        """
        hashes = array("q")  # 8 bytes for each line; the ids themselves could be large
        with self._path.open("rb") as file:
            for custom_id in LineReader(file, self._max_line_bytes).ids(self.problems):
                self.count += 1
                if self.count > MAX_REQUESTS:
                    message = f"the file has more than {MAX_REQUESTS} requests"
                    _add(self.problems, "too_many_requests", message)
                    return
                if custom_id is not None:
                    hashes.append(hash(custom_id))
                if self.count % _STEP_LINES == 0:
                    yield
        if not self.count:
            _add(self.problems, "empty_file", "the file has no requests")
            return
        found, counts = np.unique(np.array(hashes, np.int64), return_counts=True)
        yield
        if repeated := set(found[counts > 1].tolist()):
            yield from self._find_duplicates(repeated)

    def _find_duplicates(self, hashes: set[int]) -> Iterator[None]:
        """Report lines whose ``custom_id`` an earlier line has.

        Args:
            hashes: hashes that occur several times; different ids may have the same.
        """
        lines: dict[str, int] = {}
        with self._path.open("rb") as file:
            reader = LineReader(file, self._max_line_bytes)
            for custom_id in reader.ids([]):
                if custom_id is not None and hash(custom_id) in hashes:
                    first = lines.setdefault(custom_id, reader.number)
                    if first != reader.number:
                        message = f"line {first} has the same custom_id"
                        code = "duplicate_custom_id"
                        _add(self.problems, code, message, reader.number, "custom_id")
                if reader.number % _STEP_LINES == 0:
                    yield
        self.problems.sort(key=lambda problem: problem.line or 0)


class _InvalidLine(Exception):
    """A line is no request."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def _parse(raw: bytes, max_bytes: int) -> tuple[str, Any]:
    """Return ``custom_id`` and body of a line.

    Raises:
        _InvalidLine: the line is no request; nothing of it is in the message.
    """
    if len(raw) > max_bytes:
        raise _InvalidLine("line_too_long", f"the line has more than {max_bytes} bytes")
    try:
        line = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _InvalidLine("invalid_json_line", _describe_no_json(raw, error)) from None
    if not isinstance(line, dict):
        raise _InvalidLine("invalid_json_line", "the line is no JSON object")
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID_CHARACTERS:
        message = f"custom_id must be a string of 1 to {MAX_ID_CHARACTERS} characters"
        raise _InvalidLine("invalid_custom_id", message, "custom_id")
    if surrogates.drop(custom_id) != custom_id:
        message = "custom_id has half of a character (a lone surrogate)"
        raise _InvalidLine("invalid_custom_id", message, "custom_id")
    if line.get("method") != "POST":
        raise _InvalidLine("invalid_method", 'method must be "POST"', "method")
    if line.get("url") != ENDPOINT:
        message = f'url must be the endpoint of the batch, "{ENDPOINT}"'
        raise _InvalidLine("invalid_url", message, "url")
    if "body" not in line:
        raise _InvalidLine("missing_body", "there is no body", "body")
    return custom_id, line["body"]


def _describe_no_json(raw: bytes, error: Exception) -> str:
    if raw.startswith(_GZIP):
        return "the line is compressed (gzip): upload the file without compression"
    if isinstance(error, UnicodeDecodeError) or b"\0" in raw:  # such as UTF-16
        return "the line is not UTF-8"
    return "the line is no JSON"


def _add(
    problems: list[LineProblem],
    code: str,
    message: str,
    line: int | None = None,
    param: str | None = None,
) -> None:
    if len(problems) < MAX_PROBLEMS:
        problems.append(LineProblem(code=code, message=message, line=line, param=param))
