"""The output files: ``vectors.npy``, ``vectors.npy.part`` until it is complete, the manifest."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertq.errors import OutputError
from bertq_client.files import manifest, partial_file
from bertq_client.files.formats import FORMATS, RowFormat
from bertq_client.files.manifest import Manifest
from bertq_client.files.partial_file import PartialFile, explain_errors


class Output:
    """The files of one output.

    Args:
        path: final name of the file of vectors.

    Attributes:
        path: the same.
        manifest: the manifest on disk, once rows were written or found.

    Raises:
        OutputError: vectors cannot be written under this name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest | None = None
        self._partial: PartialFile | None = None
        with explain_errors(path):
            if path.is_dir():
                raise OutputError(
                    f"{path} is a directory: name a file in it, such as {path / 'vectors.npy'}"
                )
            if path.suffix not in FORMATS:
                raise OutputError(f"{path}: vectors are written as {' or '.join(FORMATS)}")
            if path.exists() and not path.is_file():
                raise OutputError(f"{path} is a pipe, socket or device: vectors need a file")
            if not path.parent.is_dir():
                raise OutputError(f"there is no directory {path.parent}")
        self._partial_path = path.with_name(f"{path.name}.part")
        self._manifest_path = manifest.path_of(path)

    def check_is_not(self, source: Path) -> None:
        """Check that the output would not overwrite the input.

        Raises:
            OutputError: the input is one of the output's files.
        """
        for path in (self.path, self._partial_path, self._manifest_path):
            with explain_errors(path), suppress(FileNotFoundError):
                if path.samefile(source):
                    raise OutputError(f"{path} would be written over the input")

    @contextmanager
    def locked(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Lock the output against other processes; set ``manifest`` to the one to resume from.

        Raises:
            OutputError: files exist that may be neither replaced nor resumed, or another process
                writes them.
        """
        with explain_errors(self.path):
            self._open(resume=resume, overwrite=overwrite)
        try:
            yield
        finally:
            self._close()

    def _open(self, *, resume: bool, overwrite: bool) -> None:
        """Open the partial file, unless the output is complete."""
        self.manifest = manifest.load(self._manifest_path)
        is_new = not self._partial_path.exists()
        if is_new and resume and self._is_complete():
            return
        if is_new and not resume and not overwrite:
            self._check_not_there()
        self._partial = PartialFile(self._partial_path)
        try:
            # Loaded again: another process may have finished it before the lock.
            self.manifest = manifest.load(self._manifest_path)
            self._check_partial_file(resume=resume, overwrite=overwrite)
        except BaseException:
            self._close(was_refused=True)
            raise

    def _check_partial_file(self, *, resume: bool, overwrite: bool) -> None:
        """Decide whether and from where to resume.

        Raises:
            OutputError: files exist that may be neither replaced nor resumed.
        """
        assert self._partial is not None
        size = self._partial.size
        if overwrite:
            self.manifest = None
        elif size == 0:
            if resume and self._is_complete():
                self._close()
                return
            # A run that was to replace the output may have written no row.
            if not (resume and self._has_no_rows()):
                self._check_not_there()
            self.manifest = None
        elif not resume:
            raise OutputError(
                f"{self._partial_path} exists, from a run that did not end: resume continues it, "
                "overwrite begins anew"
            )
        elif self.manifest is None:
            raise OutputError(
                f"{self._partial_path} exists, but {self._manifest_path.name}, which says how it "
                "was made, does not: overwrite begins anew"
            )
        elif size < self.manifest.position.bytes:
            raise OutputError(
                f"{self._partial_path} is shorter than {self._manifest_path.name} says: it was "
                "damaged, overwrite begins anew"
            )

    def _is_complete(self) -> bool:
        """Return whether the output is complete, as the manifest says."""
        return (
            self.manifest is not None
            and self.manifest.complete
            and self.path.is_file()
            and self.path.stat().st_size == self.manifest.position.bytes
        )

    def _has_no_rows(self) -> bool:
        """Return whether the manifest is of a run that has not written a row."""
        found = self.manifest
        return found is not None and not found.complete and not found.position.rows

    def _check_not_there(self) -> None:
        if self.path.exists():
            raise OutputError(f"{self.path} exists already: overwrite replaces it")

    # -- writing

    def begin(self, first: Manifest, row_format: RowFormat) -> None:
        """Prepare the file for rows: after the saved ones, or at the beginning of a new file.

        Raises:
            OutputError: the output cannot be written.
        """
        assert self._partial is not None
        with explain_errors(self.path):
            if self.manifest is None:
                # Saved before the first byte of the partial file, so that its origin is known.
                first.save(self._manifest_path)
                partial_file.sync_directory(self.path.parent)
                self.manifest = first
            self._partial.truncate(self.manifest.position.bytes)
            if row_format.header_bytes:
                # A run that was interrupted just before its end may have written the header.
                self._partial.write_header(bytes(row_format.header_bytes))

    def write(self, data: bytes) -> None:
        """Add rows.

        Raises:
            OutputError: the disk is full or unavailable.
        """
        assert self._partial is not None
        with explain_errors(self.path):
            self._partial.write(data)

    def commit(self, reached: Manifest) -> None:
        """Save the rows written so far, so that they survive a crash; a later run resumes here.

        Raises:
            OutputError: the output cannot be written.
        """
        assert self._partial is not None
        with explain_errors(self.path):
            self._partial.sync()
            reached.save(self._manifest_path)
            self.manifest = reached

    def finish(self, reached: Manifest, row_format: RowFormat) -> None:
        """Complete the file and rename it to its final name, unless that was done before.

        Raises:
            OutputError: the output cannot be written.
        """
        if self._partial is None:
            return
        with explain_errors(self.path):
            self._partial.truncate(reached.position.bytes)
            if row_format.header_bytes:
                self._partial.write_header(row_format.header(reached.position.rows))
        self.commit(reached)
        with explain_errors(self.path):
            partial_file.sync_directory(self.path.parent)
            self._partial.rename(self.path)
            partial_file.sync_directory(self.path.parent)

    def _close(self, *, was_refused: bool = False) -> None:
        """Close the files; remove those of a run that has written no row."""
        if self._partial is None:
            return
        with suppress(OSError):
            is_empty = self._partial.size == 0
            if self._has_no_rows() and not was_refused:
                is_empty = True
                self._manifest_path.unlink(missing_ok=True)
            if is_empty:
                self._partial.remove()
        self._partial.close()
        self._partial = None
