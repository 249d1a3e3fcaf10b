"""The wheel and the sdist, as ``python -m build`` makes them; .ci/run installs and uses both."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bertq

ROOT = Path(__file__).parents[2]
PACKAGES = {"bertq", "bertq_client", "bertq_workers", "bertq_bert", "bertq_cli", "bertq_gateway"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of both; built without isolation, which would need the network."""
    directory = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    """The names in the wheel, which was built from the sdist."""
    (path,) = built.glob("*.whl")
    assert path.name == f"bertq-{bertq.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_has_the_packages_whole_and_nothing_else(wheel: list[str]) -> None:
    info = f"bertq-{bertq.__version__}.dist-info"
    assert {name.partition("/")[0] for name in wheel} == PACKAGES | {"bertq_http.py", info}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode == 0:  # else it is tested from the sdist
        roots = ("bertq/", "client/", "workers/", "bert/", "cli/", "gateway/")
        files = [Path(name) for name in tracked.stdout.splitlines() if name.startswith(roots)]
        inside = {"/".join(p.parts if p.parts[0] == "bertq" else p.parts[1:]) for p in files}
        assert inside == {name for name in wheel if not name.startswith(info)}
    for package in PACKAGES:
        assert f"{package}/py.typed" in wheel
    assert f"{info}/licenses/LICENSE" in wheel


def test_versions_of_the_peers(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        text = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt")))
    metadata = message_from_string(text)
    assert metadata["Version"] == bertq.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert b"bertq = bertq_cli.__main__:main" in scripts
    # A client installs no dependency of workers or of the command, and not Celery: any version of
    # Celery can be installed with it; .ci/packages tries some.
    plain = {
        Requirement(line).name
        for line in metadata.get_all("Requires-Dist") or []
        if Requirement(line).marker is None
    }
    assert plain == {"redis", "numpy", "msgspec", "tqdm"}


def test_the_sdist_can_be_tested(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt",
        "tests/conftest.py", "tests/data/golden/minilm.npz", "docs/users.acl", "bertq/celery.py",
        "compose/compose.yaml", "compose/Dockerfile", "client/bertq_http.py",
        "deploy/kubernetes/redis.yaml", "deploy/prometheus/bertq.rules.yml",
        "deploy/grafana/bertq.json",
    ):  # fmt: skip
        assert name in names
    assert not any(name.startswith((".ci", ".git/", "shared")) for name in names)


def test_constraints_list_every_requirement() -> None:
    """``constraints.txt``, which CI uses, has a version for every requirement of the extras."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {}
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            pinned[canonicalize_name(requirement.name)] = specifier.version
    extras = PROJECT["optional-dependencies"]
    wanted = list(PROJECT["dependencies"])
    for name in extras.keys() - {"gpu", "integrations"}:  # not installed by CI
        wanted += extras[name]
    for line in wanted:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name != "bertq":
            assert name in pinned, line
            assert requirement.specifier.contains(pinned[name], prereleases=True), line


def test_a_release_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert changelog.startswith("# Changelog")
    assert f"## [{bertq.__version__}]" in changelog or "## [Unreleased]" in changelog
