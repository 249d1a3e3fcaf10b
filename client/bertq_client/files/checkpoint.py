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
from bertq_client.files.rows import Piece, RowWriter
from bertq_client.files.run_options import RunOptions
from bertq_client.files.source import Identity


class RunProgress:
    """The rows and position of a run: rows are written in order, all of the same model.

    Args:
        order: options of the run.
        output: output of the rows; this process has locked it.
        identity: identity of the input, if it is known.
    """

    def __init__(self, order: RunOptions, output: Output, identity: Identity | None) -> None:
        self._order = order
        self._output = output
        self._identity = identity
        self._manifest: Manifest | None = None
        self._table: RowWriter | None = None
        # A single attribute: Ctrl-C may come at any time, and both values must match then.
        self._reached = (LineDigest(), Position(0, 0, 0, 0, ""))

    @property
    def position(self) -> Position:
        """The position reached; a later run may have to repeat the last second."""
        return self._reached[1]

    @property
    def begun(self) -> bool:
        """Whether the output has rows, or the manifest of an earlier run."""
        return self._manifest is not None

    def adopt(self, kept: Manifest, trace: LineDigest) -> None:
        """Continue after the rows of an earlier run; ``trace`` is the digest of their sentences."""
        self._table = RowWriter(self._order, kept.row_shape, is_sparse=kept.is_sparse)
        self._manifest, self._reached = kept, (trace, kept.position)

    def open(self) -> None:
        """Prepare the output for rows after those of an earlier run.

        Raises:
            OutputError: the output cannot be written.
        """
        if self._manifest is not None and self._table is not None:
            self._output.begin(self._manifest, self._table.form)

    def begin(self, fingerprint: str, row_shape: tuple[int, ...], *, is_sparse: bool) -> None:
        """Begin a new output, when its first rows are available.

        Args:
            fingerprint: fingerprint of the model.
            row_shape: shape of a row.
            is_sparse: whether rows are ``SparseRows``.

        Raises:
            OutputError: the output cannot be written.
        """
        self._table = RowWriter(self._order, row_shape, is_sparse=is_sparse)
        trace = LineDigest()
        start = Position(0, 0, self._table.form.head, 0, trace.digest())
        made = Manifest(
            False, fingerprint, row_shape, is_sparse, self._order.meaning(), self._identity, start
        )
        self._output.begin(made, self._table.form)
        self._manifest, self._reached = made, (trace, start)

    def add(
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
        assert self._table is not None
        if fingerprint != self._manifest.fingerprint:
            raise line_errors.other_model(
                self._output.path, self._manifest.fingerprint, fingerprint
            )
        trace, at = self._reached
        lines = [number for number, _ in sentences]
        rows, size = self._write(self._table.pieces(vectors, lines, at.line))
        self._reach(trace.further(sentences), rows, size, lines[-1], cut)

    def fill(self, line: int) -> None:
        """Write the rows of the blank lines up to the last line of the input.

        Raises:
            OutputError: the rows cannot be written.
        """
        assert self._table is not None
        trace, at = self._reached
        rows, size = self._write(self._table.blanks(at.line, line))
        self._reach(trace, rows, size, line, 0)

    def _write(self, pieces: Iterator[Piece]) -> tuple[int, int]:
        rows = size = 0
        for count, data in pieces:
            self._output.write(data)
            rows, size = rows + count, size + len(data)
        return rows, size

    def _reach(self, trace: LineDigest, rows: int, size: int, line: int, cut: int) -> None:
        at = self.position
        further = Position(at.rows + rows, line, at.bytes + size, at.cut + cut, trace.digest())
        self._reached = trace, further

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
        assert self._table is not None
        self._output.finish(self._manifest.at(self.position, complete=True), self._table.form)

    def keep(self, say: Callable[[str], object]) -> None:
        """Commit after an error, if possible, and report how many rows are saved."""
        kept = self._output.kept
        if kept is not None and not kept.complete and kept.position != self.position:
            with suppress(BertqError):
                self.commit()
        kept = self._output.kept
        if kept is not None and not kept.complete and (rows := kept.position.rows):
            say(f"kept so far {rows} rows: run again with --resume (resume=True)")
