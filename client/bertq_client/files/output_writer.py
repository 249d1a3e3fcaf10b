"""Writes the rows of a run to its output, and tracks the position that it has reached."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from bertq.errors import BertqError
from bertq.protocol.sparse import AnyRows
from bertq_client.files import line_errors
from bertq_client.files.digest import LineDigest
from bertq_client.files.line import Sentence
from bertq_client.files.manifest import Manifest, Position
from bertq_client.files.output import Output
from bertq_client.files.row_formatter import Block, RowFormatter
from bertq_client.files.run_options import RunOptions
from bertq_client.files.source import Identity


class OutputWriter:
    """The writer of a run: it writes rows in order, all of the same model.

    Args:
        options: options of the run.
        output: output of the rows; this process has locked it.
        identity: identity of the input, if it is known.
    """

    def __init__(self, options: RunOptions, output: Output, identity: Identity | None) -> None:
        self._options = options
        self._output = output
        self._identity = identity
        self._manifest: Manifest | None = None
        self._formatter: RowFormatter | None = None
        # A single attribute: Ctrl-C may come at any time, and both values must match then.
        self._reached = (LineDigest(), Position(0, 0, 0, 0, ""))

    @property
    def position(self) -> Position:
        """The position reached; a later run may have to repeat the last second."""
        return self._reached[1]

    @property
    def has_begun(self) -> bool:
        """Whether the output has rows, or the manifest of an earlier run."""
        return self._manifest is not None

    def resume(self, manifest: Manifest, digest: LineDigest) -> None:
        """Continue after the rows of an earlier run.

        Args:
            manifest: the manifest of the earlier run.
            digest: the digest of the sentences of its rows.
        """
        self._formatter = RowFormatter(
            self._options, manifest.row_shape, is_sparse=manifest.is_sparse
        )
        self._manifest, self._reached = manifest, (digest, manifest.position)

    def open(self) -> None:
        """Prepare the output for rows after those of an earlier run.

        Raises:
            OutputError: the output cannot be written.
        """
        if self._manifest is not None and self._formatter is not None:
            self._output.begin(self._manifest, self._formatter.row_format)

    def begin(self, fingerprint: str, row_shape: tuple[int, ...], *, is_sparse: bool) -> None:
        """Begin a new output, when its first rows are available.

        Args:
            fingerprint: fingerprint of the model.
            row_shape: shape of a row.
            is_sparse: whether rows are ``SparseRows``.

        Raises:
            OutputError: the output cannot be written.
        """
        self._formatter = RowFormatter(self._options, row_shape, is_sparse=is_sparse)
        row_format, digest = self._formatter.row_format, LineDigest()
        start = Position(0, 0, row_format.header_bytes, 0, digest.digest())
        options = self._options.defining_options()
        manifest = Manifest(
            False, fingerprint, row_shape, is_sparse, options, self._identity, start
        )
        self._output.begin(manifest, row_format)
        self._manifest, self._reached = manifest, (digest, start)

    def write(
        self,
        fingerprint: str,
        vectors: AnyRows,
        sentences: Sequence[tuple[int, Sentence]],
        cut: int,
    ) -> None:
        """Write the rows of sentences, and the rows of the blank lines before them.

        Args:
            fingerprint: fingerprint of the model that encoded them.
            vectors: a row for each sentence.
            sentences: the sentences with their line numbers.
            cut: number of truncated sentences.

        Raises:
            ModelMismatch: the model differs from that of earlier rows.
            OutputError: the rows cannot be written.
        """
        assert self._manifest is not None
        assert self._formatter is not None
        if fingerprint != self._manifest.fingerprint:
            raise line_errors.model_mismatch(
                self._output.path, self._manifest.fingerprint, fingerprint
            )
        digest, position = self._reached
        lines = [number for number, _ in sentences]
        rows, size = self._write(self._formatter.format(vectors, lines, position.line))
        self._advance(digest.extended(sentences), rows, size, lines[-1], cut)

    def write_blanks(self, last_line: int) -> None:
        """Write the rows of the blank lines up to the last line of the input.

        Raises:
            OutputError: the rows cannot be written.
        """
        assert self._formatter is not None
        digest, position = self._reached
        rows, size = self._write(self._formatter.format_blanks(position.line, last_line))
        self._advance(digest, rows, size, last_line, 0)

    def _write(self, blocks: Iterator[Block]) -> tuple[int, int]:
        rows = size = 0
        for count, data in blocks:
            self._output.write(data)
            rows, size = rows + count, size + len(data)
        return rows, size

    def _advance(self, digest: LineDigest, rows: int, size: int, line: int, cut: int) -> None:
        before = self.position
        position = Position(
            before.rows + rows, line, before.bytes + size, before.cut + cut, digest.digest()
        )
        self._reached = digest, position

    def commit(self) -> None:
        """Save the rows written so far, so that they survive a crash.

        Raises:
            OutputError: the output cannot be written.
        """
        if self._manifest is not None:
            self._output.commit(self._manifest.at(self.position))

    def finish(self) -> None:
        """Complete the file and rename it to its final name.

        Raises:
            OutputError: the output cannot be written.
        """
        assert self._manifest is not None
        assert self._formatter is not None
        manifest = self._manifest.at(self.position, complete=True)
        self._output.finish(manifest, self._formatter.row_format)

    def commit_after_error(self, report: Callable[[str], object]) -> None:
        """Commit after an error, if possible, and report how many rows are saved."""
        saved = self._output.manifest
        if saved is not None and not saved.complete and saved.position != self.position:
            with suppress(BertqError):
                self.commit()
        saved = self._output.manifest
        if saved is not None and not saved.complete and (rows := saved.position.rows):
            report(f"{rows} rows are saved: run again with --resume (resume=True)")
