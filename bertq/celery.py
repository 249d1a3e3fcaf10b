"""The Celery app of ``celery -A bertq``: workers, the dashboard and Celery's other commands.

Clients do not use it: they talk to Redis directly. Without the extra ``celery``, which ``worker``
includes, the import of this module ends the process with one line.
"""

import os
from typing import Any, cast

from bertq.errors import SettingsError
from bertq.system import extras

try:
    extras.require(
        "celery -A bertq", "worker", "celery", "kombu", "click", "packaging", "prometheus_client"
    )
except SettingsError as error:
    raise SystemExit(f"Error: {error}") from None

import click
from celery import Celery
from celery.bin.base import CeleryOption

from bertq.config import dashboard
from bertq.config.celery_config import configuration, redact_url
from bertq.config.options import settings_options
from bertq.redis import redis_url


class _ConfigurationError(click.ClickException):
    """A configuration error; the celery command prints it as one line and does not start."""

    exit_code = os.EX_CONFIG


def _configuration() -> dict[str, Any]:
    # Celery calls this when it reads the first setting, not at import: ``celery -b URL`` passes the
    # URL through the environment, and the result backend must use the same URL.
    if os.environ.get("CELERY_RESULT_BACKEND"):
        raise _ConfigurationError(
            "results are stored in the Redis of the queue: leave out --result-backend and the "
            "variable CELERY_RESULT_BACKEND"
        )
    for variable in ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        # Celery would use their URLs as they are, and log parts of a password with ";".
        if os.environ.get(variable):
            raise _ConfigurationError(
                f"messages are read and written at one URL: leave out the variable {variable}"
            )
    try:
        broker_url = os.environ.get("CELERY_BROKER_URL")
        if not broker_url:
            return configuration(redis_url.from_environ(os.environ), takes_chunks=_TAKES_CHUNKS)
        url = redis_url.check(broker_url, "the broker URL (-b)")
    except SettingsError as error:
        raise _ConfigurationError(str(error)) from None
    # Celery itself reads this variable before any setting, so it must hold the complete URL.
    os.environ["CELERY_BROKER_URL"] = url
    return configuration(url, takes_chunks=_TAKES_CHUNKS)


def _command() -> str | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.invoked_subcommand


# Celery's command line imports this module before it runs a command. Its threads have no click
# context later, so read the command now.
_COMMAND = _command()
_TAKES_CHUNKS = _COMMAND not in {"flower", "inspect", "control", "status", "events"}

if _COMMAND == "flower":
    dashboard.restrict_address()

# Celery imports these modules by their names: this package must not import bertq_workers.
app = Celery(
    "bertq",
    set_as_current=False,
    amqp="bertq_workers.celery_compat.expiry:AMQP",
    events="bertq_workers.celery_compat.events:Events",
    include=["bertq_workers.tasks"],
)
app.add_defaults(_configuration)
redact_url(app)
# A list instead of Celery's empty set, so that the help shows options in the order of the settings.
# (The command of celery 5.7 extends its own list with it; the version is pinned, and
# tests/workers/test_refusals.py checks this.)
app.user_options["worker"] = cast(Any, settings_options(CeleryOption, help_group="bertq Options"))
