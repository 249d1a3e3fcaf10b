"""The systemd units in docs/deploy.md: systemd accepts them, and their commands run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.conftest import clean_environ

DOCS = Path(__file__).parents[2] / "docs"
HERE = str(Path(sys.executable).parent)
BLOCKS = dict(
    re.findall(
        r"^```ini\n# (/\S+)\n(.*?)^```",
        (DOCS / "deploy.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)
UNITS = {Path(path).name: text for path, text in BLOCKS.items() if path.endswith(".service")}


def test_the_page_has_two_units() -> None:
    assert set(UNITS) == {"bertq-worker@.service", "bertq-http.service"}


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # systemd-analyze checks that the program exists.
    unit = tmp_path / name.replace("@.", "@gpu0.")
    unit.write_text(UNITS[name].replace("/opt/bertq/bin", HERE))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    # An unknown setting is only a warning, and the status is still 0.
    stem = name.partition(".")[0].rstrip("@")
    warnings = [line for line in done.stderr.splitlines() if stem in line]
    assert (done.returncode, warnings) == (0, [])


@pytest.mark.parametrize("name", UNITS)
def test_the_command_knows_its_options(name: str) -> None:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string(UNITS[name])
    command = unit["Service"]["ExecStart"].replace("/opt/bertq/bin", HERE).replace("%i", "gpu0")
    # Options are parsed before the help is printed, so an unknown one is an error.
    for more, status in (["--help"], 0), (["--no-such-option", "--help"], 2):
        done = subprocess.run(
            [*shlex.split(command), *more],
            capture_output=True, env=clean_environ(), cwd="/", timeout=60,
        )  # fmt: skip
        assert done.returncode == status, done.stderr


def test_a_worker_that_cannot_start_is_not_restarted() -> None:
    (status,) = re.findall("^RestartPreventExitStatus=(.*)$", UNITS["bertq-worker@.service"], re.M)
    assert status.split() == ["2", str(os.EX_CONFIG)]


def test_the_variables_are_settings() -> None:
    known = set(re.findall(r"`(BERTQ_\w+)`", (DOCS / "settings.md").read_text(encoding="utf-8")))
    used = set(re.findall(r"^(BERTQ_\w+)=", BLOCKS["/etc/bertq/worker.env"], re.MULTILINE))
    assert used
    assert used <= known
