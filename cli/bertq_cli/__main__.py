"""Entry point of ``bertq`` and ``python -m bertq_cli``.

It imports click only after a check, so that the command ends with one line where the extra ``cli``
is not installed.
"""

import sys

from bertq.errors import SettingsError
from bertq.system import extras


def main() -> None:
    """Run the ``bertq`` command, if the extra ``cli`` is installed."""
    try:
        extras.require("the bertq command", "cli", "click", "platformdirs", "rich")
    except SettingsError as error:
        sys.exit(f"Error: {error}")
    from bertq_cli.main import main as run

    run()


if __name__ == "__main__":
    main()
