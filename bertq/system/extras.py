"""Checks for the packages of optional parts of bertq, which a client does not need."""

import importlib.util

from bertq.errors import SettingsError


def need(what: str, extra: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        what: the option or command that needs them, for the message.
        extra: the extra of bertq that installs them.
        packages: the names of their modules.

    Raises:
        SettingsError: a package is not installed.
    """
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise SettingsError(f"{what} needs more packages: pip install 'bertq[{extra}]'")
