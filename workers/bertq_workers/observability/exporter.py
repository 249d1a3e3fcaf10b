"""Start of the metrics server, if the settings request it."""

import errno

from bertq.config.settings import Settings
from bertq.errors import BertqError, SettingsError
from bertq_workers.observability.meter import Meter
from bertq_workers.observability.metrics import WorkerMetrics


class PortTaken(BertqError):
    """Another program listens on the port, perhaps for a while, such as the previous worker."""


def start(settings: Settings, meter: Meter, url: str) -> WorkerMetrics | None:
    """Serve a worker's metrics, if its settings request it.

    Raises:
        SettingsError: the address cannot be used.
        PortTaken: another program listens there.
    """
    port, host = settings.metrics_port, settings.metrics_host
    if port is None:
        return None
    metrics = WorkerMetrics(meter, url)
    where = f"port {port} of {host}"
    try:
        metrics.serve(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"{where} is taken: choose another port for metrics with --metrics-port"
            ) from None
        reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"{where} cannot be used for metrics ({reason}): choose another with --metrics-port "
            "or --metrics-host"
        ) from None
    except UnicodeError:  # the host is not a valid name
        raise SettingsError(
            f"--metrics-host is {host!r}: it must be the name or address of a host"
        ) from None
    return metrics
