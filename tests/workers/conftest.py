from collections.abc import Callable, Iterator

import pytest

from tests.conftest import clean_environ
from tests.forks import fork_server

#: Starts a worker with options and variables; returns its exit status and its lines.
Refuse = Callable[[list[str], dict[str, str]], tuple[int, list[str]]]


@pytest.fixture(scope="module")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refuse]:
    """Start a worker that cannot start; return its exit status and the lines that it printed."""
    directory = tmp_path_factory.mktemp("output")
    # Celery warns users who run it as root, as containers do.
    program = (
        "import warnings; warnings.simplefilter('ignore'); import celery.__main__ as c; c.main()"
    )
    # The modules that Celery imports before it reads the command line; they read no variables.
    modules = ["celery.bin.worker", "celery.bin.celery", "kombu.transport.redis", "numpy"]
    modules += ["celery.worker.worker", "celery.apps.worker", "tokenizers", "safetensors.numpy"]
    with fork_server(program, modules, directory) as server:

        def run(options: list[str], variables: dict[str, str]) -> tuple[int, list[str]]:
            # No Redis is there: mistakes of the worker itself are reported before it connects.
            environ = clean_environ() | {"BERTQ_REDIS_URL": "redis://127.0.0.1:1/0"} | variables
            done = server.run(["-A", "bertq", "worker", *options], environ, directory)
            return done.status, [line for line in (done.stdout + done.stderr).splitlines() if line]

        yield run
