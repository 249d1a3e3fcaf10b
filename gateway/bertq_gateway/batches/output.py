"""The files of a batch while it runs: answers and errors, in the order of the lines."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertq_gateway import error_forms
from bertq_gateway.answers import answer
from bertq_gateway.apis import openai
from bertq_gateway.batches import storage
from bertq_gateway.batches.encoding import LineAnswer, LineFailure, LineOutcome
from bertq_gateway.batches.lines import RequestLine
from bertq_gateway.batches.objects import BatchRecord
from bertq_gateway.batches.storage import CONTENT

#: Names of the files, each a directory, in the directory of a gateway's output.
ANSWERS, ERRORS = "output", "errors"

_PREFIX = "part-"
_PART = re.compile(rf"{_PREFIX}[0-9a-f]{{16}}")

#: Characters at which ``str.splitlines`` divides a line; JSON escapes the others of them.
_SEPARATORS = {character.encode(): b"\\u%04x" % ord(character) for character in "\x85\u2028\u2029"}

#: Bytes that are copied at once.
_COPY_BYTES = 1024**2


class ModelChanged(Exception):
    """A name of a model has another model than at the beginning of the batch."""


class OutputFile:
    """A file that grows by blocks; it is a directory, which becomes a file of its owner.

    Args:
        directory: the directory of the file.
        source: the directory of an earlier gateway's file to copy; not read if ``size`` is 0.
        size: bytes to copy.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, directory: Path, source: Path, size: int) -> None:
        storage.make_directory(directory)
        self._descriptor = os.open(directory / CONTENT, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if size:
                self._copy(source / CONTENT, size)
        except BaseException:
            self.close()
            raise

    def _copy(self, source: Path, size: int) -> None:
        with source.open("rb") as file:
            while size and (data := file.read(min(size, _COPY_BYTES))):
                self.write(data, file.tell() - len(data))
                size -= len(data)
        if size:
            raise OSError(errno.EIO, "a file of answers is shorter than its checkpoint")

    def write(self, data: bytes, position: int) -> int:
        """Write data at a position, and return the position after it.

        Raises:
            OSError: it cannot be written.
        """
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._descriptor, rest, position)
            rest, position = rest[count:], position + count
        return position

    def sync(self, size: int) -> None:
        """Cut the file to a size, and wait until it is on disk.

        Raises:
            OSError: it cannot be written.
        """
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class BatchOutput:
    """The answers and errors of a batch, and its progress.

    The files are copies of those of an earlier gateway, which may not know yet that it has lost its
    lease, and may still write.

    Args:
        directory: the directory of the batch.
        record: its record, which is changed.

    Attributes:
        source: the directory of the earlier files.

    Raises:
        OSError: the files cannot be created.
    """

    def __init__(self, directory: Path, record: BatchRecord) -> None:
        checkpoint = record.checkpoint
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        target = directory / name
        self.source = directory / checkpoint.directory if checkpoint.directory else None
        if self.source is not None and not self.source.is_dir():
            record.restart()
            checkpoint, self.source = record.checkpoint, None
        source = self.source or target
        self._record = record
        try:
            self._answers = OutputFile(target / ANSWERS, source / ANSWERS, checkpoint.output_bytes)
            self._errors = OutputFile(target / ERRORS, source / ERRORS, checkpoint.error_bytes)
        except BaseException:
            storage.remove_tree(target)
            raise
        checkpoint.directory = name

    def write(self, outcomes: Sequence[LineOutcome]) -> None:
        """Append the outcomes of lines, and add them to the record.

        Raises:
            ModelChanged: the vectors are those of another model than before.
            OSError: they cannot be written.
        """
        checkpoint, batch = self._record.checkpoint, self._record.batch
        answers = [outcome for outcome in outcomes if isinstance(outcome, LineAnswer)]
        failures = [outcome for outcome in outcomes if isinstance(outcome, LineFailure)]
        for found in answers:
            known = checkpoint.fingerprints.setdefault(found.model, found.fingerprint)
            if known != found.fingerprint:
                raise ModelChanged(found.model)
        self._append(
            b"".join(map(self._answer_line, answers)),
            b"".join(map(self._failure_line, failures)),
            outcomes[-1].line,
        )
        tokens = sum(found.tokens_read for found in answers)
        batch.usage.input_tokens += tokens
        batch.usage.total_tokens += tokens
        batch.request_counts.completed += len(answers)
        batch.request_counts.failed += len(failures)
        if answers:
            batch.model = answers[-1].model

    def write_unanswered(self, lines: Sequence[RequestLine], code: str, message: str) -> None:
        """Append the error of lines that are not answered.

        Raises:
            OSError: it cannot be written.
        """
        error = {"code": code, "message": message}
        self._append(b"", b"".join(self._line(line, error=error) for line in lines), lines[-1])
        self._record.batch.request_counts.failed += len(lines)

    def sync(self) -> None:
        """Wait until everything is on disk.

        Raises:
            OSError: it cannot be written.
        """
        self._answers.sync(self._record.checkpoint.output_bytes)
        self._errors.sync(self._record.checkpoint.error_bytes)

    def close(self) -> None:
        """Close the files."""
        self._answers.close()
        self._errors.close()

    def _append(self, answers: bytes, errors: bytes, last: RequestLine) -> None:
        """Append lines to both files; the checkpoint changes only if both are written."""
        checkpoint = self._record.checkpoint
        output_bytes = self._answers.write(answers, checkpoint.output_bytes)
        error_bytes = self._errors.write(errors, checkpoint.error_bytes)
        checkpoint.output_bytes, checkpoint.error_bytes = output_bytes, error_bytes
        checkpoint.line, checkpoint.input_bytes = last.number, last.end

    def _answer_line(self, found: LineAnswer) -> bytes:
        body = openai.content(
            found.model, found.vectors, found.tokens_read, is_base64=found.request.is_base64
        )
        return self._line(found.line, 200, body)

    def _failure_line(self, found: LineFailure) -> bytes:
        status = found.problem.status
        return self._line(found.line, status, error_forms.OPENAI.body(found.problem, status))

    def _line(
        self,
        line: RequestLine,
        status: int | None = None,
        body: Any = None,
        error: dict[str, str] | None = None,
    ) -> bytes:
        """Return a line of an output file; it is the same each time."""
        name = f"{self._record.batch.id} {line.number}".encode()
        unique = hashlib.blake2b(name, digest_size=12).hexdigest()
        response = {"status_code": status, "request_id": f"req_{unique}", "body": body}
        content = {
            "id": f"batch_req_{unique}",
            "custom_id": line.custom_id,
            "response": None if status is None else response,
            "error": error,
        }
        data = answer.dump_parts(content)
        if not data.isascii():
            for separator, escaped in _SEPARATORS.items():
                data = data.replace(separator, escaped)
        return data + b"\n"


def remove_parts(directory: Path) -> None:
    """Remove what gateways have left in the directory of a batch."""
    for name in storage.subdirectories(directory, _PART):
        storage.remove_tree(directory / name)
