"""The host of the primary is cut off: packets are lost, and no error is reported."""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.hosts.network import Network, Unavailable

ROOT = Path(__file__).parents[2]


def test_the_primary_is_cut_off(tmp_path: Path) -> None:
    try:
        network = Network(("a", "b", "c"))
    except Unavailable as error:
        pytest.skip(f"no hosts can be made of namespaces here: {error}")
    with closing(network):
        hosts = [
            (host.address, [shutil.which(host.enter[0]), *host.enter[1:]])
            for host in network.hosts.values()
        ]
        program = [sys.executable, "-m", "tests.ha.partition", str(tmp_path), json.dumps(hosts)]
        with subprocess.Popen(
            [*network.hosts["c"].enter, *program],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            if process.stdout.readline() == "cut\n":
                network.cut("a")
                process.stdin.write("\n")
                process.stdin.flush()
            last_line = process.stdout.readline()
            errors = process.stderr.read()
        assert process.returncode == 0, errors
        assert last_line == "done\n"
