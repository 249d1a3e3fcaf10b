"""Importing and installing the client: its cost, and other programs in the process."""

import subprocess
import sys

import pytest

import bertq
import bertq_client
from bertq import errors

ALONE = """
import sys
from importlib import import_module
from pkgutil import walk_packages
# None makes an import fail as if the package were not installed.
absent = "celery kombu amqp vine billiard packaging click rich platformdirs tensorflow tokenizers"
sys.modules |= dict.fromkeys(absent.split())
import bertq, bertq_client
from bertq import BertClient
BertClient().close()
# Those of Celery and of command lines, which clients do not import.
others = {"bertq.celery", "bertq.config.celery_config", "bertq.config.dashboard"}
others |= {"bertq.config.options"}
for package in (bertq_client, bertq):
    for found in walk_packages(package.__path__, package.__name__ + "."):
        if found.name in others:
            others.remove(found.name)
        else:
            import_module(found.name)
assert not others
"""

IMPORT = """
import sys, time
start = time.perf_counter()
from bertq import BertClient
took = time.perf_counter() - start
heavy = {"tensorflow", "tokenizers", "safetensors", "celery", "bertq_bert", "bertq_workers"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
client = BertClient()
client.close()
import celery
from celery import current_app
assert current_app.main != "bertq"
print(took)
"""


def test_the_client_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_client_needs_only_what_is_installed_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ["celery", "kombu", "packaging"])
def test_the_app_without_its_extra_is_one_line(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; import bertq.celery"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    message = "Error: celery -A bertq needs more packages: pip install 'bertq[worker]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_the_app_beside_an_imported_celery() -> None:
    # The celery command imports them first, and kombu replaces its module.
    script = "import celery, kombu; kombu.Queue; from bertq.celery import app; print(app.main)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "bertq\n", "")


def test_encoding_needs_no_part_of_the_worker(redis_url: str) -> None:
    script = (
        "import sys; from bertq import BertClient\n"
        "try: BertClient(redis_url=sys.argv[1], timeout=0.3).encode(['a'])\n"
        "except TimeoutError as error: print(type(error).__name__)\n"
        "print(sorted({'tensorflow', 'tokenizers', 'safetensors', 'bertq_bert', 'bertq_workers',"
        " 'celery', 'kombu'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, redis_url], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split("\n")[:2] == ["NoWorker", "[]"], done.stderr


def test_public_names_are_sorted_and_complete() -> None:
    for package in (bertq, bertq_client):
        assert sorted(package.__all__) == package.__all__
        for name in package.__all__:
            assert getattr(package, name) is not None


def test_every_error_is_a_bertq_error_with_a_docstring() -> None:
    assert errors.__doc__ is not None
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    assert len(classes) > 10
    for cls in classes:
        assert issubclass(cls, errors.BertqError | UserWarning)
        assert cls.__doc__
        assert cls.__name__ in errors.__doc__


def test_a_remote_error_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(errors.RemoteError("ValueError", "no", "id-0")))
    assert (error.type_name, error.message, error.task_id) == ("ValueError", "no", "id-0")
    assert str(error) == "ValueError: no"
    error = pickle.loads(pickle.dumps(errors.RemoteError("ValueError", "no", "id-0", range(20))))
    assert error.rows == tuple(range(20))
    assert str(error) == (
        "ValueError: no (one of the 20 sentences 0, 1, 2, 3, 4, 5, 6, 7, ... of the request)"
    )


def test_an_old_name_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="DurableJob"):
        old = bertq.KeptJob
    assert old is bertq.DurableJob
