"""Checks for the packages of the parts of bertq that a client does not need."""

import importlib.util

from bertq.errors import SettingsError


def require(feature: str, extra: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        feature: the option or command that needs them, for the message.
        extra: the extra of bertq that installs them.
        packages: the names of their modules.

    Raises:
        SettingsError: a package is not installed.
    """
    if not all(map(_is_installed, packages)):
        raise SettingsError(f"{feature} needs more packages: pip install 'bertq[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        return True  # it is imported, and has no specification any more: kombu replaces itself
