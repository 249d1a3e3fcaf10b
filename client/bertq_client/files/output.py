"""The output files: ``vectors.npy``, ``vectors.npy.part`` until it is complete, the manifest."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertq.errors import OutputError
from bertq_client.files import manifest, partial_file
from bertq_client.files.formats import FORMS, Form
from bertq_client.files.manifest import Manifest
from bertq_client.files.partial_file import PartialFile, explained


class Output:
    """The files of one output.

    Args:
        path: final name of the file of vectors.

    Attributes:
        path: the same.
        kept: the manifest on disk, once rows were written or found.

    Raises:
        OutputError: vectors cannot be written under this name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part_path = path.with_name(f"{path.name}.part")
        self._manifest_path = path.with_name(f"{path.name}.json")
        self._part: PartialFile | None = None
        self.kept: Manifest | None = None
        if path.suffix not in FORMS:
            raise OutputError(f"{path}: vectors are written as {' or '.join(FORMS)}")
        with explained(path):
            if path.is_dir():
                raise OutputError(f"{path} is a directory")
            if not path.parent.is_dir():
                raise OutputError(f"there is no directory {path.parent}")

    def check_apart(self, source: Path) -> None:
        """Check that the output would not overwrite the input.

        Raises:
            OutputError: the input is one of the output's files.
        """
        for path in (self.path, self._part_path, self._manifest_path):
            with explained(path), suppress(FileNotFoundError):
                if path.samefile(source):
                    raise OutputError(f"{path} would be written over the input")

    @contextmanager
    def held(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Lock the output against other processes; ``kept`` is then the manifest to resume from.

        Raises:
            OutputError: files exist that may be neither replaced nor resumed, or another process
                writes them.
        """
        with explained(self.path):
            self._take(resume=resume, overwrite=overwrite)
        try:
            yield
        finally:
            self._release()

    def _take(self, *, resume: bool, overwrite: bool) -> None:
        """Open the partial file, unless the output is complete."""
        self.kept = manifest.load(self._manifest_path)
        new = not self._part_path.exists()
        if new and resume and self._whole():
            return
        if new and not resume and not overwrite:
            self._refuse_output()
        self._part = PartialFile(self._part_path)
        try:
            # Loaded again: another process may have finished it before the lock.
            self.kept = manifest.load(self._manifest_path)
            self._settle(resume=resume, overwrite=overwrite)
        except BaseException:
            self._release(refused=True)
            raise

    def _settle(self, *, resume: bool, overwrite: bool) -> None:
        """Decide whether and from where to resume."""
        assert self._part is not None
        size = self._part.size
        if overwrite:
            self.kept = None
        elif size == 0:
            if resume and self._whole():
                self._release()
                return
            begun = self.kept is not None and not self.kept.complete and not self.kept.position.rows
            if not (resume and begun):  # a run that was to replace the output, and wrote no row
                self._refuse_output()
            self.kept = None
        elif not resume:
            raise OutputError(
                f"{self._part_path} exists, from a run that did not end: resume continues it, "
                "overwrite begins anew"
            )
        elif self.kept is None:
            raise OutputError(
                f"{self._part_path} is there, and {self._manifest_path.name}, which says how it "
                "was made, is not: overwrite begins anew"
            )
        elif size < self.kept.position.bytes:
            raise OutputError(
                f"{self._part_path} is shorter than {self._manifest_path.name} says: it was "
                "damaged, overwrite begins anew"
            )

    def _whole(self) -> bool:
        """Return whether the output is complete, as the manifest says."""
        return (
            self.kept is not None
            and self.kept.complete
            and self.path.is_file()
            and self.path.stat().st_size == self.kept.position.bytes
        )

    def _refuse_output(self) -> None:
        if self.path.exists():
            raise OutputError(f"{self.path} is there already: overwrite replaces it")

    # -- writing

    def begin(self, first: Manifest, form: Form) -> None:
        """Prepare the file for rows: after the saved ones, or at the beginning of a new file.

        Raises:
            OutputError: the output cannot be written.
        """
        assert self._part is not None
        with explained(self.path):
            if self.kept is None:
                # Saved before the first byte of the partial file, so that its origin is known.
                first.save(self._manifest_path)
                partial_file.sync_directory(self.path.parent)
                self.kept = first
            self._part.cut(self.kept.position.bytes)
            if form.head:
                # A run that was interrupted just before its end may have written the header.
                self._part.write_head(bytes(form.head))

    def write(self, data: bytes) -> None:
        """Add rows.

        Raises:
            OutputError: the disk is full or unavailable.
        """
        assert self._part is not None
        with explained(self.path):
            self._part.write(data)

    def commit(self, reached: Manifest) -> None:
        """Save the rows written so far, so that they survive a crash; a later run resumes here.

        Raises:
            OutputError: the output cannot be written.
        """
        assert self._part is not None
        with explained(self.path):
            self._part.sync()
            reached.save(self._manifest_path)
            self.kept = reached

    def finish(self, reached: Manifest, form: Form) -> None:
        """Complete the file and rename it to its final name, unless that was done before.

        Raises:
            OutputError: the output cannot be written.
        """
        if self._part is None:
            return
        with explained(self.path):
            self._part.cut(reached.position.bytes)
            if form.head:
                self._part.write_head(form.title(reached.position.rows))
        self.commit(reached)
        with explained(self.path):
            partial_file.sync_directory(self.path.parent)
            self._part.become(self.path)
            partial_file.sync_directory(self.path.parent)

    def _release(self, *, refused: bool = False) -> None:
        """Close the files; remove those of a run that has written no row."""
        if self._part is None:
            return
        with suppress(OSError):
            nothing = self._part.size == 0
            begun = self.kept is not None and not self.kept.complete
            if begun and not refused and self.kept and not self.kept.position.rows:
                nothing = True
                self._manifest_path.unlink(missing_ok=True)
            if nothing:
                self._part.remove()
        self._part.close()
        self._part = None
