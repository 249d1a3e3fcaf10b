"""The app of ``celery -A bertq``: workers, the dashboard and Celery's other commands.

Clients need none: they speak to Redis themselves.
"""

import os
from typing import Any, cast

import click
from celery import Celery
from celery.bin.base import CeleryOption

from bertq.config import dashboard
from bertq.config.celery_config import configuration
from bertq.config.options import settings_options
from bertq.errors import SettingsError
from bertq.redis import redis_url


class _Refused(click.ClickException):
    """What the celery command prints as one line; it will not start before something changes."""

    exit_code = os.EX_CONFIG


def _configuration() -> dict[str, Any]:
    # Called by Celery when the first setting is read, not at import: ``celery -b URL`` hands the
    # URL over in the environment, and it must hold for the result backend too.
    if os.environ.get("CELERY_RESULT_BACKEND"):
        raise _Refused(
            "results are kept where the queue is: leave out --result-backend and the variable "
            "CELERY_RESULT_BACKEND"
        )
    try:
        given = os.environ.get("CELERY_BROKER_URL")
        if not given:
            return configuration(redis_url.from_environ(os.environ), takes=_TAKES_CHUNKS)
        url = redis_url.check(given, "the broker URL (-b)")
    except SettingsError as error:
        raise _Refused(str(error)) from None
    # Celery reads this variable itself, before any setting: let it see the completed URL.
    os.environ["CELERY_BROKER_URL"] = url
    return configuration(url, takes=_TAKES_CHUNKS)


def _command() -> str | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.invoked_subcommand


# Celery's command line imports this module before it runs a command; later on, its threads have
# no context.
_COMMAND = _command()
_TAKES_CHUNKS = _COMMAND not in {"flower", "inspect", "control", "status", "events"}

if _COMMAND == "flower":
    dashboard.guard()

# The task module is named, not imported: it belongs to a room that this one does not know.
app = Celery("bertq", set_as_current=False, include=["bertq_workers.tasks"])
app.add_defaults(_configuration)
# A list where Celery has an empty set: the help shows options in the order of the settings. (The
# command of celery 5.7 extends its own list with it; the version is pinned, and
# tests/workers/test_refusals.py looks at it.)
app.user_options["worker"] = cast(Any, settings_options(CeleryOption, help_group="bertq Options"))
