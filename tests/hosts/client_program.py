"""A client on a host, ``python -m tests.hosts.client_program URL``, that reads commands.

``encode COUNT FILE`` encodes that many sentences and stores their vectors. ``submit COUNT FILE``
submits a durable job and stores its id. After each command it prints ``done``; an error ends it.
"""

import sys
from pathlib import Path

import numpy as np

from bertq import BertClient
from tests.workers import standins


def _print(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main(url: str) -> None:
    with BertClient(redis_url=url, timeout=90, check_length=False) as client:
        _print("ready")
        for line in sys.stdin:
            what, count, name = line.split()
            texts = standins.sentences(int(count))
            if what == "encode":
                np.save(Path(name), client.encode(texts))
            else:
                Path(name).write_text(client.submit(texts).id)
            _print("done")


if __name__ == "__main__":
    main(sys.argv[1])
