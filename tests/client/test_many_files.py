"""A process that may open no more files, as one with too many clients."""

import subprocess
import sys

#: Lowers the limit while a client is connected, so that it cannot open another connection.
PROGRAM = """
import logging, os, resource, sys
from bertq import BertClient
from bertq.errors import Timeout

logging.basicConfig(format="%(levelname)s %(message)s")
with BertClient(redis_url=sys.argv[1], timeout=1.5) as first, BertClient(
    redis_url=sys.argv[1], timeout=1.5
) as second:
    future = first.encode_async(["a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    error = second.encode_async(["b"]).exception()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(error, Timeout), error
    assert "Too many open files" in str(error), error
    print(type(second.encode_async(["c"]).exception()).__name__)
"""


def test_it_is_no_flood_of_the_log_and_the_client_continues(redis_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, redis_url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "NoWorker\n"
    assert "Traceback" not in done.stderr
    assert done.stderr.count("is away") <= 5, done.stderr
