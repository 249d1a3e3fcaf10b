"""Decides whether, and from which line, a run can continue an earlier one."""

from bertq.errors import OutputError
from bertq.state.worker_info import WorkerInfo
from bertq_client.files import line_errors
from bertq_client.files.digest import LineDigest
from bertq_client.files.manifest import Manifest, Position
from bertq_client.files.run_options import RunOptions
from bertq_client.files.source import Lines, TextSource


def check(kept: Manifest, order: RunOptions, source: TextSource, workers: list[WorkerInfo]) -> None:
    """Check that this run has the options, input and model of the earlier one.

    Raises:
        OutputError: the options or the input have changed.
        ModelMismatch: the workers have another model.
    """
    kept.check(order.output, order.meaning(), source.identity)
    if workers and all(worker.fingerprint != kept.fingerprint for worker in workers):
        raise line_errors.other_model(order.output, kept.fingerprint, workers[0].fingerprint)


def walk(
    at: Position, order: RunOptions, source: TextSource, lines: Lines
) -> tuple[LineDigest, int]:
    """Read the lines that the saved rows cover, and compare their digest.

    For standard input, this is the only check of the input.

    Returns:
        The digest of their sentences, and the number of the last line.

    Raises:
        OutputError: the input has other sentences than those of the rows.
    """
    trace, reached = LineDigest(), 0
    while reached < at.line and (line := next(lines, None)):
        reached, sentence = line
        if sentence is not None:
            trace.add([(reached, sentence)])
    if trace.digest() != at.digest or reached < at.line:
        raise OutputError(
            f"{order.output} was made from other sentences than {source.name} has now: overwrite it"
        )
    return trace, reached
