"""Whatever a user types: an error of a line or two, and never a traceback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import bertq_cli.commands
from tests.conftest import clean_environ
from tests.forks import ForkServer, fork_server

COMMAND_FILES = sorted(Path(bertq_cli.commands.__file__).parent.glob("[a-z]*.py"))

NO_REDIS = "redis://127.0.0.1:1/0"

#: Command lines; FILE, DIR, MISSING, DENIED, BINARY and EMPTY stand for paths.
COMMANDS = (
    "bench --model-dir MISSING",
    "bench --model-dir FILE",
    "bench --model-dir DIR",
    "bench --model-dir DIR --output FILE",
    "bench --model-dir DIR --output EMPTY",
    "bench --model-dir EMPTY",
    "bench --num-client x",
    "bench --model-dir DIR --seconds nan",
    "convert MISSING",
    "convert FILE",
    "convert DIR",
    "convert BINARY",
    "convert EMPTY",
    "demo --model-dir FILE",
    "demo --model-dir EMPTY",
    "download ../x",
    "download a/b/c",
    "download \udcff",
    "download EMPTY",
    "encode MISSING -o out.npy",
    "encode DIR -o out.npy",
    "encode FILE",
    "encode FILE -o .",
    "encode FILE -o DIR",
    "encode FILE -o FILE",
    "encode FILE -o FILE/x.npy",
    "encode FILE -o MISSING/x.npy",
    "encode FILE -o out.txt",
    "encode FILE -o EMPTY",
    "encode FILE -o DENIED/x.npy",
    "encode BINARY -o out.npy",
    "encode BINARY -o out.npy --input-format jsonl",
    "encode EMPTY -o out.npy",
    "encode FILE -o out.npy --timeout x",
    "encode FILE -o out.npy --timeout nan",
    "encode FILE -o out.npy --batch-size 99999999999999999999",
    "encode FILE -o out.npy --queue x/y",
    "encode FILE -o out.npy --model x.y",
    "encode FILE -o out.npy --resume --overwrite",
    "encode FILE -o out.npy --prompt a --prompt-name b",
    "encode FILE -o out.npy --dimensions 0",
    "encode FILE -o out.npy --timeout 2 -q",
    "encode FILE -o out.npy --dimensions 99999999999999999999",
    "encode FILE -o out.npy --timeout 99999999999999999999 -q --queue gpu99999999999999999999",
    "http --max-connections 99999999999999999999",
    "http --max-body 99999999999999999999 --port 1 --host nowhere.invalid",
    "http --drain 99999999999999999999 --host nowhere.invalid",
    "health --max-batch-seconds nan",
    "health --timeout inf",
    "serve --model-dir DIR --threads 99999999999999999999 --data-dir FILE",
    "serve --model-dir DIR --device-map 99999999999999999999 --data-dir FILE",
    "redis --password \udcff",
    "bench --max-batch-size 99999999999999999999 --model-dir MISSING",
    "bench --seconds nan --model-dir MISSING",
    "health --redis-url x",
    "health --redis-url redis://h:99999/0",
    "health --node a --queue b",
    "health --queue x/y",
    "health --model-name x.y",
    "health --timeout -1",
    "http --port x",
    "http --host nowhere.invalid --api-key-file KEYS",
    "http --api-key-file MISSING",
    "http --api-key-file BINARY",
    "http --api-key-file EMPTY",
    "http --certfile MISSING",
    "http --certfile FILE",
    "http --certfile DIR",
    "http --keyfile FILE",
    "http --alias x",
    "int8-ranges MISSING -o out.json",
    "int8-ranges FILE -o DIR",
    "int8-ranges FILE -o FILE",
    "int8-ranges FILE -o MISSING/x",
    "int8-ranges BINARY -o out.json",
    "int8-ranges FILE -o out.json --timeout 2",
    "job x",
    "job EMPTY",
    "job \udcff",
    "job x --cancel --discard",
    "job x -o out.txt",
    "job x -o DIR",
    "job x -o MISSING/x.npy",
    "jobs x",
    "jobs",
    "purge",
    "drain",
    "purge x/y --yes",
    "purge gpu0 --yes",
    "rerank FILE",
    "rerank FILE --ttl 5",
    "rerank FILE --query x -o FILE",
    "rerank BINARY --input-format jsonl",
    "search MISSING FILE x",
    "search BINARY FILE x",
    "search EMPTY FILE x",
    "verify FILE FILE",
    "verify FILE MISSING",
    "redis --port 0",
    "redis --data-dir FILE",
    "redis --data-dir FILE/x",
    "redis --data-dir EMPTY",
    "redis --host nowhere.invalid",
    "serve --model-dir EMPTY",
    "serve --model-dir DIR --standby",
    "models",
    "models switch",
    "models switch x",
    "serve --model MISSING",
    "serve --model DIR",
    "serve --model EMPTY",
    "serve --model-dir DIR --data-dir FILE",
    "serve --model-dir DIR --metrics-port 65535 --num-workers 2",
    "serve --model-dir DIR --dtype x --port 0",
    "serve -max_seq_len 25",
    "status --redis-url redis://",
    "status",
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("places")
    (directory / "file").write_text("a sentence\n")
    (directory / "binary").write_bytes(bytes(range(256)) * 4)
    (directory / "keys").write_text("k" * 20)
    (directory / "folder").mkdir()
    return {
        "FILE": str(directory / "file"),
        "BINARY": str(directory / "binary"),
        "KEYS": str(directory / "keys"),
        "DIR": str(directory / "folder"),
        "MISSING": str(directory / "missing"),
        "DENIED": "/proc",
        "EMPTY": "",
    }


@pytest.fixture(scope="module")
def bertq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    modules = ["bertq_client", "bertq_gateway.app", "bertq_cli.main"]
    modules += [f"bertq_cli.commands.{path.stem}" for path in COMMAND_FILES]
    with fork_server(
        "from bertq_cli.main import main; main()", modules, tmp_path_factory.mktemp("output")
    ) as server:
        yield server


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_is_no_traceback(
    tmp_path: Path, places: dict[str, str], bertq: ForkServer, command: str
) -> None:
    arguments = []
    for word in command.split(" "):
        name, slash, rest = word.partition("/")
        arguments.append(places.get(name, name) + slash + rest)
    environ = clean_environ() | {"BERTQ_REDIS_URL": NO_REDIS, "XDG_CACHE_HOME": str(tmp_path)}
    done = bertq.run(arguments, environ, tmp_path)
    output = done.stdout + done.stderr
    assert done.status in (1, 2), output
    assert "Traceback" not in output
    assert "Exception ignored" not in output
    lines = done.stderr.splitlines() or output.splitlines()
    assert any("Error: " in line or line.startswith("unhealthy: ") for line in output.splitlines())
    assert len(lines) <= 6, output
    assert [path.name for path in tmp_path.iterdir() if path.name != "bertq"] == []
