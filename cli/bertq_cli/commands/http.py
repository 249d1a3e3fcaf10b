"""``bertq http``: run the gateway in the foreground."""

import os
from pathlib import Path

import click

from bertq.errors import SettingsError
from bertq.protocol.encoding import TRUNCATE
from bertq.redis import redis_url
from bertq.redis.connection import refuse_cluster
from bertq.system import extras
from bertq_cli.paths import NamedPath
from bertq_cli.redis_option import redis_option
from bertq_cli.seconds import Seconds
from bertq_gateway import config
from bertq_gateway.batches.settings import BatchSettings
from bertq_gateway.config import Config

_KEYS_VARIABLE = "BERTQ_HTTP_API_KEYS"


@click.command()
@redis_option("The Redis of the workers.")
@click.option(
    "--host",
    envvar="BERTQ_HTTP_HOST",
    default=config.HOST,
    show_default=True,
    help="The address to listen on; one that other machines can reach needs an API key. "
    "[BERTQ_HTTP_HOST]",
)
@click.option(
    "--port",
    envvar="BERTQ_HTTP_PORT",
    type=click.IntRange(1, 65535),
    default=config.PORT,
    show_default=True,
    help="The port to listen on. [BERTQ_HTTP_PORT]",
)
@click.option(
    "--api-key-file",
    type=NamedPath(exists=True, dir_okay=False),
    envvar="BERTQ_HTTP_API_KEY_FILE",
    help="A file with an API key on each line. The variable BERTQ_HTTP_API_KEYS takes keys too, "
    "separated by commas. [BERTQ_HTTP_API_KEY_FILE]",
)
@click.option(
    "--certfile",
    metavar="FILE",
    envvar="BERTQ_HTTP_CERTFILE",
    help="Serve HTTPS, with the certificate (PEM) of this file. [BERTQ_HTTP_CERTFILE]",
)
@click.option(
    "--keyfile",
    metavar="FILE",
    envvar="BERTQ_HTTP_KEYFILE",
    help="The key of the certificate, if it is not in the same file. [BERTQ_HTTP_KEYFILE]",
)
@click.option(
    "--cors",
    multiple=True,
    metavar="ORIGIN",
    help="Allow web pages of this origin, such as https://example.org; '*' allows all. Can be "
    "repeated.",
)
@click.option(
    "--alias",
    multiple=True,
    metavar="NAME=MODEL",
    help="An additional name for a model. Can be repeated.",
)
@click.option(
    "--truncate",
    type=click.Choice(TRUNCATE),
    envvar="BERTQ_HTTP_TRUNCATE",
    default=Config.truncate,
    show_default=True,
    help="The end to cut from texts with more tokens than the model reads; error refuses them. A "
    "request can choose for itself. [BERTQ_HTTP_TRUNCATE]",
)
@click.option(
    "--strict",
    is_flag=True,
    envvar="BERTQ_HTTP_STRICT",
    help="Refuse requests with unknown fields, which are ignored otherwise. [BERTQ_HTTP_STRICT]",
)
@click.option(
    "--cache",
    "cache_rows",
    type=click.IntRange(min=0),
    envvar="BERTQ_HTTP_CACHE",
    default=Config.cache_rows,
    show_default=True,
    metavar="N",
    help="Vectors to keep in memory for each model, for queries that come again. "
    "[BERTQ_HTTP_CACHE]",
)
@click.option(
    "--batch-dir",
    type=NamedPath(file_okay=False),
    envvar="BERTQ_HTTP_BATCH_DIR",
    metavar="DIR",
    help="Serve OpenAI's Batch API, and store its files in this directory, which several gateways "
    "may share. [BERTQ_HTTP_BATCH_DIR]",
)
@click.option(
    "--batch-max-file",
    type=click.IntRange(min=1),
    envvar="BERTQ_HTTP_BATCH_MAX_FILE",
    default=BatchSettings.max_file_bytes,
    show_default=True,
    metavar="BYTES",
    help="Maximum size of a file that is uploaded. [BERTQ_HTTP_BATCH_MAX_FILE]",
)
@click.option(
    "--batch-quota",
    type=click.IntRange(min=1),
    envvar="BERTQ_HTTP_BATCH_QUOTA",
    default=BatchSettings.quota_bytes,
    show_default=True,
    metavar="BYTES",
    help="Maximum size of all files of an API key. [BERTQ_HTTP_BATCH_QUOTA]",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=Seconds(),
    default=Config.timeout_seconds,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of a request.",
)
@click.option(
    "--keep-alive",
    "keep_alive_seconds",
    type=click.IntRange(min=1),
    envvar="BERTQ_HTTP_KEEP_ALIVE",
    default=Config.keep_alive_seconds,
    show_default=True,
    metavar="SECONDS",
    help="Time that an idle connection stays open. A proxy in front must close it earlier. "
    "[BERTQ_HTTP_KEEP_ALIVE]",
)
@click.option(
    "--max-body",
    "max_body_bytes",
    type=click.IntRange(min=1),
    default=Config.max_body_bytes,
    show_default=True,
    metavar="BYTES",
    help="Maximum size of a request's body.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=Config.max_batch,
    show_default=True,
    metavar="N",
    help="Maximum inputs of a request.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=Config.max_requests,
    show_default=True,
    metavar="N",
    help="Maximum requests in progress; further ones get status 429.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 65535),
    default=Config.max_connections,
    show_default=True,
    metavar="N",
    help="Maximum open connections; further ones get status 503.",
)
@click.option(
    "--drain",
    "drain_seconds",
    type=click.IntRange(min=0),
    default=Config.drain_seconds,
    show_default=True,
    metavar="SECONDS",
    help="Time that requests in progress have after SIGTERM.",
)
def http(
    url: str,
    api_key_file: Path | None,
    alias: tuple[str, ...],
    cors: tuple[str, ...],
    batch_dir: Path | None,
    batch_max_file: int,
    batch_quota: int,
    **options: object,
) -> None:
    """Serve HTTP: the APIs of OpenAI, text-embeddings-inference, Cohere and bert-as-service.

    The page /docs describes every path.
    """
    extras.require(
        "the gateway", "http", "fastapi", "fastapi_offline", "uvicorn", "orjson", "python_multipart"
    )
    batches = None
    if batch_dir is not None:
        batches = BatchSettings(batch_dir, batch_max_file, batch_quota)
        batches.check()
    settings = Config(
        redis_url=url,
        api_keys=_read_keys(api_key_file),
        aliases=config.parse_aliases(alias),
        cors=cors,
        batches=batches,
        **options,  # type: ignore[arg-type]  # click has checked them
    )
    refuse_cluster(url)
    # Imported late: importing FastAPI takes half a second, and a wrong option is reported before
    # that.
    from bertq_gateway import server

    with server.listen(settings) as sock:
        address = f"http{'s' if settings.certfile else ''}://{settings.host}:{settings.port}"
        count = len(settings.api_keys)
        keys = f"{count or 'no'} API {'keys' if count > 1 else 'key'}"
        line = f"http        {address}, {keys}, redis {redis_url.redact(settings.redis_url)}"
        server.run(settings, sock, on_ready=lambda: click.echo(line))


def _read_keys(path: Path | None) -> frozenset[str]:
    """Return the API keys from a file and from the environment variable.

    Raises:
        SettingsError: they cannot be read or are invalid, or the file has none.
    """
    keys = config.parse_keys(os.environ.get(_KEYS_VARIABLE, ""), _KEYS_VARIABLE)
    if path is None:
        return keys
    try:
        found = config.parse_keys(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"--api-key-file {path} cannot be read: {error}") from None
    if not found:
        raise SettingsError(f"--api-key-file {path} has no key: write one on each line")
    return keys | found
