"""Encode a large text file into a .npy file; run again after a crash, it goes on where it stopped.

Row i of the array is line i of the file; a blank line is a row of zeros. While it runs, the rows
that are there are in ``FILE.npy.part``. The same on the command line is ``bertq encode``.

Run a service, then the script::

    bertq serve --model-dir DIR
    python examples/bulk.py corpus.txt corpus.npy
"""

import argparse
import sys

import numpy as np

from bertq import BertClient
from bertq.errors import BertqError


def main() -> None:
    """Encode a file, or what is missing of it."""
    parser = argparse.ArgumentParser(description="Encode the lines of a file.")
    parser.add_argument("source", help="UTF-8 text, a sentence a line; .gz and .jsonl too")
    parser.add_argument("target", help="the .npy file to write")
    arguments = parser.parse_args()

    with BertClient() as client:
        try:
            made = client.encode_file(arguments.source, arguments.target, blank="zero", resume=True)
        except BertqError as error:
            sys.exit("\n".join([str(error), *getattr(error, "__notes__", [])]))
    vectors = np.load(made.path, mmap_mode="r")
    print(f"{made.path}: {vectors.shape}, {made.kept} rows of a run before")


if __name__ == "__main__":
    main()
