"""Encode a large text file, line by line, into a .npy file, in bounded memory.

Some thousand lines are under way at a time, however large the file is; the array is mapped, and the
system writes it out as it needs the memory. Row i of the array is line i of the file; a blank line,
which has no vector, is a row of zeros. ``numpy.load(FILE, mmap_mode="r")`` opens the array without
reading it. ``bertq encode`` does this too, and goes on after a crash (``bulk.py``); here is how a
stream is written to a place of your own.

Run a service, then the script::

    bertq serve --model-dir DIR
    python examples/stream.py corpus.txt corpus.npy
"""

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.lib.format import open_memmap
from tqdm import tqdm

from bertq import BertClient


def encode_file(client: BertClient, source: Path, target: Path) -> tuple[int, ...]:
    """Encode the lines of ``source``; return the shape of the array in ``target``."""
    with source.open("rb") as binary:
        count = sum(1 for _ in binary)
    # The lines that were read and are not in the array yet, by number.
    under_way: deque[int] = deque()

    def sentences(lines: Iterable[str]) -> Iterator[str]:
        for number, line in enumerate(lines):
            if text := line.strip():
                under_way.append(number)
                yield text

    array: Any = None
    # newline="\n": lines end where they end in the binary file that was counted.
    with (
        source.open(encoding="utf-8", newline="\n") as lines,
        tqdm(total=count, unit="line") as bar,
    ):
        for batch in client.encode_stream(sentences(lines)):
            if array is None:
                shape = (count, *batch.vectors.shape[1:])
                array = open_memmap(target, "w+", dtype=batch.vectors.dtype, shape=shape)
            rows = [under_way.popleft() for _ in batch.texts]
            array[rows] = batch.vectors
            bar.update(rows[-1] + 1 - bar.n)
        bar.update(count - bar.n)
    if array is None:
        sys.exit(f"{source} has no line that is not blank")
    array.flush()
    return tuple(array.shape)


def main() -> None:
    """Encode a file; it has its name once it is complete."""
    parser = argparse.ArgumentParser(description="Encode the lines of a file.")
    parser.add_argument("source", type=Path, help="UTF-8 text, a sentence a line")
    parser.add_argument("target", type=Path, help="the .npy file to write")
    arguments = parser.parse_args()

    part = arguments.target.with_name(arguments.target.name + ".part")
    with BertClient() as client:
        shape = encode_file(client, arguments.source, part)
    part.replace(arguments.target)
    print(f"{arguments.target}: {shape}")


if __name__ == "__main__":
    main()
