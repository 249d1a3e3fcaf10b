"""Parts of bertq that need more packages than a client has."""

import importlib.util

from bertq.errors import SettingsError


def need(what: str, extra: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        what: needs them, for the message: an option or a command.
        extra: of bertq, which has them.
        packages: by the names of their modules.

    Raises:
        SettingsError: one is not.
    """
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise SettingsError(f"{what} needs more packages: pip install 'bertq[{extra}]'")
