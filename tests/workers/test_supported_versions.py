"""Celery and kombu: the releases that are supported are those that are pinned and installed."""

from pathlib import Path

import pytest

from bertq.errors import SettingsError
from bertq_workers.celery_compat import versions

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize(("package", "supported"), versions.SUPPORTED.items())
def test_the_pins(package: str, supported: str) -> None:
    major, minor = map(int, supported.split("."))
    pin = f'"{package}>={supported},<{major}.{minor + 1}"'
    assert pin in PYPROJECT.read_text(encoding="utf-8")


def test_the_installed_releases_are_supported() -> None:
    versions.check_versions()


@pytest.mark.parametrize("other", ["5.8.0", "6.0.0rc1", "5.70.1", "5.6"])
def test_others_are_refused(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.setattr(versions, "version", lambda package: other)
    with pytest.raises(SettingsError, match=rf"celery {other} is installed.* needs 5\.7"):
        versions.check_versions()
