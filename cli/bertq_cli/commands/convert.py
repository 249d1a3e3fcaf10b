"""``bertq convert``: convert pickled weights to safetensors."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bertq.errors import BertqError, SettingsError
from bertq_cli.conversion.pickles import INDEX, PICKLE, SAFETENSORS, Weights, find
from bertq_cli.paths import NamedPath
from bertq_cli.service import child
from bertq_cli.signals import exit_on_signals

_CHILD = Path(__file__).parents[1] / "conversion" / "child.py"


class ConversionFailed(BertqError):
    """The weights cannot be converted; nothing was written."""


@click.command()
@click.argument("directory", metavar="DIR", type=NamedPath())
@click.option(
    "--python",
    "interpreter",
    default=sys.executable,
    metavar="FILE",
    help="The Python that has torch, if bertq runs on another one.",
)
def convert(directory: Path, interpreter: str) -> None:
    """Convert the weights of the model in DIR from pytorch_model.bin to model.safetensors.

    A pickle can run code when it is opened. torch opens it in a separate process, with
    weights_only=True, which refuses everything but tensors. In a directory of sentence-transformers
    the weights of its other modules are converted too. The old files stay.
    """
    found = find(directory)
    console = Console(highlight=False)
    with exit_on_signals(), ExitStack() as stack:
        scratch = [stack.enter_context(_scratch(weights.folder)) for weights in found]
        with console.status("converting"):
            converted = _run(interpreter, directory, found, scratch)
        written = [
            _complete(weights, place, converted)
            for weights, place in zip(found, scratch, strict=True)
        ]
        for weights, place, (names, _) in zip(found, scratch, written, strict=True):
            _publish(weights.folder, place, names)
    for weights, (names, facts) in zip(found, written, strict=True):
        line = f"written     {weights.folder / names[-1]}: {facts}"
        console.print(line, markup=False, soft_wrap=True)


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    # In the folder itself, so that finished files can be renamed into their places.
    try:
        return tempfile.TemporaryDirectory(dir=folder, prefix=".bertq-convert-")
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written to: {error.strerror}") from None


def _run(
    interpreter: str, directory: Path, found: Sequence[Weights], scratch: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Convert the files in a separate process; return its report on each file.

    Raises:
        ConversionFailed: the process failed; the message gives the reason.
    """
    pairs = [
        (str(weights.folder / source), str(Path(place, target)))
        for weights, place in zip(found, scratch, strict=True)
        for source, target in weights.files.items()
    ]
    program = shutil.which(interpreter)
    if program is None:
        raise ConversionFailed(f"--python {interpreter} is not a program that can be run")
    safe = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    done = subprocess.run(
        # The launcher ends the child with this process, even if a signal arrives during the start.
        [*child.launcher(signal.SIGKILL), program, str(_CHILD), json.dumps(pairs)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **safe},
    )
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    if done.returncode == 0 and len(reports) == len(pairs):
        return {document["source"]: document for document in reports}
    raise ConversionFailed(_reason(interpreter, directory, done, reports))


def _reason(
    interpreter: str,
    directory: Path,
    done: "subprocess.CompletedProcess[bytes]",
    reports: Sequence[Mapping[str, Any]],
) -> str:
    last = reports[-1] if reports else {}
    if "missing" in last:
        return (
            f"{last['missing']} is not installed for {interpreter}, and {PICKLE} cannot be read "
            "without it. Install it in a separate environment and name the Python of that:\n"
            "    python3 -m venv torch-env && torch-env/bin/pip install torch\n"
            f"    bertq convert {shlex.quote(str(directory))} --python torch-env/bin/python"
        )
    if "old" in last:
        return (
            f"{last['old']} of {interpreter} cannot open a pickle safely: 2.6 or newer is needed, "
            "pip install --upgrade torch"
        )
    if "error" in last:
        return str(last["error"])
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        return f"the conversion was ended by {ended}; SIGKILL may mean that memory ran out"
    tail = (done.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
    return f"the conversion failed: {tail}"


def _complete(
    weights: Weights, scratch: str, converted: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], str]:
    """Return the names of the files to publish, the index last, and a summary of their tensors.

    Raises:
        ConversionFailed: a tensor is not in the file that the index names.
    """
    reports = {name: converted[str(weights.folder / name)] for name in weights.files}
    for source, target in weights.files.items():
        shutil.copymode(weights.folder / source, Path(scratch, target))
    names = list(weights.files.values())
    if weights.index is not None:
        for tensor, file in weights.index.items():
            if tensor not in reports[file]["names"]:
                raise ConversionFailed(f"{weights.folder / file} has no tensor {tensor}")
        size = sum(report["bytes"] for report in reports.values())
        placed = {name: weights.files[file] for name, file in sorted(weights.index.items())}
        index = {"metadata": {"total_size": size}, "weight_map": placed}
        names.append(SAFETENSORS + INDEX)
        with Path(scratch, names[-1]).open("w", encoding="utf-8") as written:
            json.dump(index, written, indent=2)
            written.flush()
            os.fsync(written.fileno())
    count = sum(len(report["names"]) for report in reports.values())
    mebibytes = sum(report["bytes"] for report in reports.values()) / 2**20
    return names, f"{count} tensors, {mebibytes:.1f} MiB"


def _publish(folder: Path, scratch: str, names: Sequence[str]) -> None:
    """Rename finished files to their final names: a reader sees all of a file or nothing."""
    try:
        for name in names:
            Path(scratch, name).replace(folder / name)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConversionFailed(f"{folder} cannot be written to: {error.strerror}") from None
