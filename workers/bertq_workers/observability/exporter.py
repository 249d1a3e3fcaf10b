"""Whether a worker serves metrics: only then is what serves them imported."""

import errno
from typing import TYPE_CHECKING

from bertq.config.settings import Settings
from bertq.errors import BertqError, SettingsError
from bertq.system import extras
from bertq_workers.observability.meter import Meter

if TYPE_CHECKING:
    from bertq_workers.observability.metrics import Metrics


class PortTaken(BertqError):
    """The port belongs to another program; for a while perhaps, as to the worker before."""


def start(settings: Settings, meter: Meter, url: str) -> "Metrics | None":
    """Serve a worker's metrics from now on, if its settings say so.

    Raises:
        SettingsError: a package is not installed, or the address cannot be listened on.
        PortTaken: another program listens there.
    """
    port, host = settings.metrics_port, settings.metrics_host
    if port is None:
        return None
    extras.need("--metrics-port", "metrics", "prometheus_client")
    from bertq_workers.observability.metrics import Metrics

    metrics = Metrics(meter, url)
    where = f"port {port} of {host}, for metrics,"
    try:
        metrics.serve(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"{where} is taken: choose another with --metrics-port") from None
        reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"{where} cannot be used, {reason}: choose another with --metrics-port or "
            "--metrics-host"
        ) from None
    except UnicodeError:  # what the name of a host cannot be
        raise SettingsError(f"{where} cannot be used: {host!r} is no host's name") from None
    return metrics
