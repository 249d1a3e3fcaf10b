"""Uploads: multipart forms whose file is written to disk as it arrives."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from bertq_gateway.batches.files import Upload
from bertq_gateway.errors import ClientDisconnected, Refused

#: Bytes of a file that are collected before they are written.
_WRITE_BYTES = 1024**2

#: Maximum number of fields, and maximum bytes of one that is no file.
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 1024

_MAX_FILENAME_CHARACTERS = 255


class UploadForm:
    """A form that is being received.

    Args:
        content_type: the header of the request.

    Attributes:
        fields: values by the names of the fields.
        filename: name of the file; None before it has begun.

    Raises:
        Refused: the request is no form.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Refused(422, "body: it must be a form, sent as Content-Type: multipart/form-data")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._is_complete = False
        self._pieces: list[bytes] = []
        self._num_fields = 0
        self._header = b""
        self._value = b""
        self._disposition = ""
        self._name: str | None = None  # of the field; None for the file
        self._data = b""
        self._delimiter = b"\n--" + boundary
        self._preamble: bytes | None = b"\n"  # its end; None after it
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_header,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise Refused(422, "body: the boundary of the form is too long") from None

    def feed(self, data: bytes) -> None:
        """Parse some data.

        Raises:
            Refused: it is not a valid form.
        """
        if self._preamble is not None:
            data = self._preamble + data
            end = data.find(self._delimiter)
            if end < 0:
                self._preamble = data[-len(self._delimiter) :]
                return
            self._preamble, data = None, data[end + 1 :]
        try:
            self._parser.write(data)
        except FormParserError:
            raise Refused(422, "body: the form cannot be read") from None

    def take_file_data(self) -> bytes:
        """Return the data of the file since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def check_complete(self) -> None:
        """Check that the form has ended and has a file.

        Raises:
            Refused: it has not.
        """
        if not self._is_complete:
            raise Refused(422, "body: the form ends too early")
        if self.filename is None:
            raise Refused(422, "file: Field required", "missing", "file")

    # -- called by the parser

    def _begin_part(self) -> None:
        self._num_fields += 1
        if self._num_fields > _MAX_FIELDS:
            raise Refused(422, f"body: the form has more than {_MAX_FIELDS} fields")
        self._disposition, self._data = "", b""

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value.decode("utf-8", "replace")
        self._header = self._value = b""

    def _end_headers(self) -> None:
        options = _options(self._disposition)
        self._name = options.get("name", "")
        if self._name == "file":
            if self.filename is not None:
                raise Refused(422, "file: send one file in each form", param="file")
            self.filename = options.get("filename", "")[:_MAX_FILENAME_CHARACTERS]
            self._name = None

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._pieces.append(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > _MAX_FIELD_BYTES:
            raise Refused(422, f"body: a field has more than {_MAX_FIELD_BYTES} bytes")

    def _end_part(self) -> None:
        if self._name is not None:
            self.fields[self._name] = self._data.decode("utf-8", "replace")

    def _end(self) -> None:
        self._is_complete = True


def _options(disposition: str) -> dict[str, str]:
    # The parser encodes as latin-1, and browsers send names of files in UTF-8.
    _, options = parse_options_header(disposition.encode().decode("latin-1"))
    return {
        name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in options.items()
    }


async def receive(
    request: Request, upload: Upload, run: Callable[..., Awaitable[Any]]
) -> UploadForm:
    """Write the file of a form, and return the form.

    Args:
        request: the request.
        upload: the file to write to.
        run: runs a function on another thread.

    Raises:
        Refused: the form is invalid, the file is too large, or it cannot be written.
        ClientDisconnected: the caller has disconnected.
    """
    form = UploadForm(request.headers.get("content-type", ""))
    waiting = 0
    try:
        async for data in request.stream():
            form.feed(data)
            waiting += len(data)
            if waiting >= _WRITE_BYTES:
                await run(upload.write, form.take_file_data())
                waiting = 0
    except ClientDisconnect:
        raise ClientDisconnected from None
    form.check_complete()
    await run(upload.write, form.take_file_data())
    return form
