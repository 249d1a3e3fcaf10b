"""Checks the versions of the packages whose private parts bertq relies on."""

from importlib.metadata import version

from bertq.errors import SettingsError

#: The minor releases that this package was written for. pyproject.toml pins the same ones.
SUPPORTED = {"celery": "5.7", "kombu": "5.7"}


def check_versions() -> None:
    """Refuse releases of Celery and kombu that bertq was not written for.

    They can be there if bertq was installed without an extra: only ``bertq[worker]`` pins them.

    Raises:
        SettingsError: another release is installed; names it and the supported one.
    """
    for package, supported in SUPPORTED.items():
        installed = version(package)
        if installed.split(".")[:2] != supported.split("."):
            raise SettingsError(
                f"{package} {installed} is installed, and this version of bertq needs {supported}: "
                f"pip install '{package}=={supported}.*'"
            )
