"""``bertq serve``: run a complete service on one machine, in the foreground."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from bertq.config.options import refuse_old_spelling, settings_options
from bertq.config.settings import Settings, variables
from bertq.errors import SettingsError
from bertq.protocol import queues
from bertq.redis import redis_url
from bertq.redis.connection import refuse_cluster
from bertq.system import cores, extras
from bertq_cli.commands import redis_server
from bertq_cli.models import packaged, selection
from bertq_cli.paths import NamedPath
from bertq_cli.service import embedded_redis
from bertq_cli.service.output import StatusOutput
from bertq_cli.service.supervisor import Service, run_until_stopped


def _gpus(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    """Parse the numbers of GPUs, separated by commas."""
    if value is None:
        return None
    devices = [queues.parse_device(f"gpu{part.strip()}") for part in value.split(",")]
    if None in devices:
        raise click.BadParameter(f"{value!r}: give numbers of GPUs, separated by commas, as 0,1")
    return [device.index for device in devices if device is not None]


class _Serve(click.Command):
    """A command that recognizes option names of bert-as-service and suggests bertq's names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            refuse_old_spelling(args)
        except SettingsError as error:
            raise click.UsageError(str(error), ctx) from None
        return super().parse_args(ctx, args)


@click.command(cls=_Serve)
@click.option(
    "--model",
    metavar="NAME",
    help="A model by its name, downloaded once: one that bertq download lists, or ORG/NAME of the "
    "Hugging Face hub.",
)
@click.option("--demo", is_flag=True, help=f"The model of bertq demo, {packaged.DEMO.name}.")
@click.option(
    "--num-workers",
    type=click.IntRange(1, 1000),
    help="Worker processes, one for each device: gpu0, gpu1, ... By default one, or one "
    "for each device of --device-map.",
)
@click.option(
    "--device-map",
    callback=_gpus,
    metavar="N,N",
    help="The GPUs of the workers, in turn: with 0,2 and three workers gpu0, gpu2 and gpu0. A GPU "
    "may be named twice.",
)
@click.option("--cpu", is_flag=True, help="Run on the CPU: cpu0, cpu1, ... share the cores.")
@redis_server.server_options
@click.option(
    "--redis-url",
    envvar="BERTQ_REDIS_URL",
    metavar="URL",
    help="A Redis that runs already, instead of the embedded one. So a second bertq serve, with "
    "another --model-name, serves a second model on the Redis of the first. [BERTQ_REDIS_URL]",
)
@click.option(
    "--flower",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Run the Flower dashboard on this port of 127.0.0.1.",
)
@click.option(
    "--http-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Run the HTTP gateway on this port of 127.0.0.1 (bertq http has more options).",
)
@click.option(
    "--batch-dir",
    type=NamedPath(file_okay=False),
    envvar="BERTQ_HTTP_BATCH_DIR",
    metavar="DIR",
    help="The gateway serves OpenAI's Batch API, and stores its files in this directory. "
    "[BERTQ_HTTP_BATCH_DIR]",
)
@click.option(
    "-l",
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="Lines of the workers' logs that are shown.",
)
def serve(**options: Any) -> None:
    """Run a Redis server, workers and, on request, a dashboard and a gateway.

    The service runs until Ctrl-C, and restarts processes that die. Clients on this machine need no
    argument: BertClient().
    """
    as_json = Settings.read(os.environ, options).log_format == "json"
    with closing(StatusOutput(as_json=as_json)) as output, ExitStack() as stack:
        if name := _model_name(options):
            directory = selection.fetch(name, partial(output.report, "model"))
            output.report("model", f"{name}, {directory}")
            options["model_dir"] = str(directory)
        service = plan(options, stack)
        service.show_progress = output.show_progress

        async def wait() -> None:
            count = len(service.queues)
            address = service.server.public_url if service.server else redis_url.redact(service.url)
            name = f", model {service.model_name}" if service.model_name else ""
            output.report(
                "ready", f"{count} {'worker' if count == 1 else 'workers'} at {address}{name}"
            )
            await asyncio.Event().wait()

        asyncio.run(run_until_stopped(service, output.report, wait))
        output.report("stopped", "nothing is left running")


def _model_name(options: dict[str, Any]) -> str | None:
    """Return the name of the model to download; None if a directory is given instead.

    Raises:
        SettingsError: several options select a model.
    """
    given = {
        "--model": options["model"],
        "--demo": options["demo"],
        "--model-dir": options["model_dir"],
    }
    names = [option for option, value in given.items() if value]
    if len(names) > 1:
        raise SettingsError(f"{' and '.join(names)} each select a model: leave out all but one")
    return packaged.DEMO.name if options["demo"] else options["model"]


def plan(options: dict[str, Any], stack: ExitStack) -> Service:
    """Check the options, lock the data directory, and return the service to run.

    Raises:
        SettingsError: an option cannot be used.
        ProcessFailed: a port is in use, or the data directory cannot be used.
    """
    settings = Settings.read(os.environ, options)
    if settings.model_dir is None:
        raise SettingsError(
            "no model: give --model-dir DIR (or BERTQ_MODEL_DIR), --model NAME to download one, or "
            "--demo for a small one"
        )
    if settings.standby:
        raise SettingsError(
            "--standby is for workers that are started alone (celery -A bertq worker): leave it out"
        )
    selection.check_directory(settings.model_dir)
    devices = _devices(options["num_workers"], options["device_map"], options["cpu"])
    server_options = {name: options[name] for name in ("host", "port", "password", "data_dir")}
    redis = None
    if options["redis_url"]:
        url = redis_url.check(options["redis_url"], "--redis-url")
        _refuse_given(
            server_options,
            "is for the embedded Redis, and --redis-url or BERTQ_REDIS_URL names another: leave "
            "out one of the two",
        )
        refuse_cluster(url)
    else:
        redis = redis_server.server_from_options(**server_options)
        stack.enter_context(embedded_redis.lock_data_dir(redis.data_dir))
        url = redis.url
    if options["http_port"] is None:
        _refuse_given(
            ["batch_dir"], "is for the gateway, which needs --http-port PORT: give it too"
        )
    used_ports = {} if redis is None else {redis.port: "--port"}
    _check_port(options["flower"], "--flower", "flower", "dashboard", used_ports)
    _check_port(options["http_port"], "--http-port", "fastapi", "http", used_ports)
    _check_metrics(settings.metrics_port, len(devices), used_ports)
    return Service(
        url=url,
        queues=devices,
        threads=_threads(settings.threads, len(devices)),
        # The workers inherit the variables of this process; command line options override them.
        variables=variables(options),
        model_name=settings.model_name,
        server=redis,
        flower_port=options["flower"],
        http_port=options["http_port"],
        batch_dir=options["batch_dir"],
        metrics_port=settings.metrics_port,
        log_level=options["log_level"].upper(),
    )


def _devices(count: int | None, gpus: list[int] | None, cpu: bool) -> list[str]:
    """Return the device of each worker.

    Raises:
        SettingsError: the options contradict each other.
    """
    if gpus is None:
        return [f"{'cpu' if cpu else 'gpu'}{number}" for number in range(count or 1)]
    if cpu:
        raise SettingsError(
            "--device-map names GPUs, and --cpu uses none: leave out one of the two"
        )
    return [f"gpu{gpus[number % len(gpus)]}" for number in range(count or len(gpus))]


def _check_port(
    port: int | None, option: str, package: str, extra: str, used_ports: dict[int, str]
) -> None:
    """Check the port of an optional part of the service, and add it to the used ports.

    Raises:
        SettingsError: the part is not installed, or another part has the port.
        ProcessFailed: another program has the port.
    """
    if port is None:
        return
    extras.require(option, extra, package)
    if port in used_ports:
        raise SettingsError(f"{option} and {used_ports[port]} are both {port}: choose another")
    embedded_redis.check_port("127.0.0.1", port, option)
    used_ports[port] = option


def _check_metrics(first: int | None, workers: int, used_ports: dict[int, str]) -> None:
    """Check the port range of the workers' metrics, if set; each worker checks its own port.

    Raises:
        SettingsError: the package for metrics is not installed, or the range has too few free
            ports.
    """
    if first is None:
        return
    extras.require("--metrics-port", "metrics", "prometheus_client")
    ports = range(first, first + workers)
    if ports[-1] > 65535:
        raise SettingsError(f"--metrics-port {first}: there is no port {ports[-1]} for the last")
    for port in ports:
        if port in used_ports:
            raise SettingsError(
                f"--metrics-port {first}: port {port}, of worker {port - first + 1}, is that of "
                f"{used_ports[port]} too: choose another"
            )


def _threads(requested: int | None, workers: int) -> list[int]:
    return [requested] * workers if requested else cores.divide(workers)


def _refuse_given(names: Iterable[str], reason: str) -> None:
    """Refuse options on the command line that have no effect.

    Raises:
        SettingsError: one of them is given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise SettingsError(f"--{name.replace('_', '-')} {reason}")


# The settings of the workers follow the model in the help, each with its variable.
_MODEL_OPTIONS = 2
serve.params[_MODEL_OPTIONS:_MODEL_OPTIONS] = settings_options(click.Option)
