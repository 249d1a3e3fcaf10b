"""Leave sentences to be encoded, and fetch the vectors later, from another process or machine.

Run a service, then the script::

    bertq serve --model-dir DIR
    id=$(python examples/job.py submit faq.txt)
    python examples/job.py fetch $id vectors.npy

The first command ends at once; so may the machine that it ran on.
"""

import argparse
from pathlib import Path

import numpy as np

from bertq import BertClient


def submit(source: Path) -> str:
    """Leave the lines of a file; return the job's id."""
    lines = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    with BertClient() as client:
        return client.submit(lines, ttl=7 * 24 * 3600).id


def fetch(job_id: str, target: Path) -> tuple[int, ...]:
    """Wait for a job, write its vectors and remove it; return their shape."""
    with BertClient() as client:
        job = client.job(job_id)
        vectors = job.result()
        np.save(target, vectors)
        job.discard()  # or it stays for the rest of its week
    return tuple(vectors.shape)


def main() -> None:
    """Do one or the other."""
    parser = argparse.ArgumentParser(description="Leave sentences, fetch vectors.")
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("submit", help="leave the lines of a file; prints an id")
    sub.add_argument("source", type=Path, help="UTF-8 text, a sentence a line")
    sub = commands.add_parser("fetch", help="write the vectors of a job to a .npy file")
    sub.add_argument("job_id", help="what submit has printed")
    sub.add_argument("target", type=Path, help="the .npy file")
    arguments = parser.parse_args()
    if arguments.command == "submit":
        print(submit(arguments.source))
    else:
        print(f"{arguments.target}: {fetch(arguments.job_id, arguments.target)}")


if __name__ == "__main__":
    main()
