"""A client on a host: ``python -m tests.hosts.asker URL``, told by lines what to do.

``encode COUNT FILE`` encodes so many sentences and stores their vectors, ``submit COUNT FILE``
leaves a job and stores its id. A line is answered by ``done``, or by an error and the end.
"""

import sys
from pathlib import Path

import numpy as np

from bertq import BertClient
from tests.workers import clocks


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main(url: str) -> None:
    with BertClient(redis_url=url, timeout=90, check_length=False) as client:
        _say("ready")
        for line in sys.stdin:
            what, count, name = line.split()
            texts = clocks.sentences(int(count))
            if what == "encode":
                np.save(Path(name), client.encode(texts))
            else:
                Path(name).write_text(client.submit(texts).id)
            _say("done")


if __name__ == "__main__":
    main(sys.argv[1])
