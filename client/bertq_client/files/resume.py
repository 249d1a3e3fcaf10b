"""Decides whether, and from which line, a run can continue an earlier one."""

from bertq.errors import OutputError
from bertq.state.worker_info import WorkerInfo
from bertq_client.files import line_errors
from bertq_client.files.digest import LineDigest
from bertq_client.files.manifest import Manifest, Position
from bertq_client.files.run_options import RunOptions
from bertq_client.files.source import Lines, TextSource


def check(
    manifest: Manifest, options: RunOptions, source: TextSource, workers: list[WorkerInfo]
) -> None:
    """Check that this run has the options, input and model of the earlier one.

    Raises:
        OutputError: the options or the input have changed.
        ModelMismatch: the workers have another model.
    """
    manifest.check(options.output, options.defining_options(), source.identity)
    if workers and all(worker.fingerprint != manifest.fingerprint for worker in workers):
        raise line_errors.model_mismatch(
            options.output, manifest.fingerprint, workers[0].fingerprint
        )


def skip_saved_lines(
    position: Position, options: RunOptions, source: TextSource, lines: Lines
) -> tuple[LineDigest, int]:
    """Read the lines that the saved rows cover, and compare their digest.

    For standard input, this is the only check of the input.

    Returns:
        The digest of their sentences, and the number of the last line.

    Raises:
        OutputError: the input has other sentences than those of the rows.
    """
    digest, last_line = LineDigest(), 0
    while last_line < position.line and (line := next(lines, None)):
        last_line, sentence = line
        if sentence is not None:
            digest.add([(last_line, sentence)])
    if digest.digest() != position.digest or last_line < position.line:
        raise OutputError(
            f"{options.output} was made from other sentences than {source.name} has now: "
            "overwrite it"
        )
    return digest, last_line
