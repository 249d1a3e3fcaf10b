"""The table of settings, URLs, queue names and keys."""

import click
import pytest

from bertq import keys, queues, redis_url
from bertq.errors import SettingsError
from bertq.options import settings_options
from bertq.queues import Device
from bertq.settings import Settings


def test_defaults_are_those_of_bert_as_service() -> None:
    assert Settings.read({}, {}) == Settings(
        model_dir=None,
        max_seq_len=25,
        max_batch_size=256,
        priority_batch_size=16,
        pooling_strategy="REDUCE_MEAN",
        pooling_layer=(-2,),
        dtype="float32",
        threads=None,
        batch_timeout=300.0,
    )


def test_variables_and_options_options_win() -> None:
    environ = {
        "BERTQ_MODEL_DIR": "/models/a",
        "BERTQ_MAX_SEQ_LEN": "none",
        "BERTQ_POOLING_LAYER": "-1,-2",
        "BERTQ_POOLING_STRATEGY": "cls_token",
        "BERTQ_THREADS": "3",
        "BERTQ_BATCH_TIMEOUT": "2.5",
        "BERTQ_DTYPE": "",
    }
    settings = Settings.read(environ, {"threads": "2", "model_dir": None, "loglevel": "INFO"})
    assert settings == Settings(
        "/models/a", None, 256, 16, "CLS_TOKEN", (-1, -2), "float32", 2, 2.5
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_seq_len", "2"),
        ("max_seq_len", "many"),
        ("max_batch_size", "0"),
        ("max_batch_size", "1.5"),
        ("priority_batch_size", "0"),
        ("pooling_layer", "0"),
        ("pooling_layer", "-1,"),
        ("pooling_layer", "-1,3"),
        ("threads", "-1"),
        ("batch_timeout", "0"),
        ("batch_timeout", "inf"),
        ("batch_timeout", "soon"),
        ("model_dir", " "),
    ],
)
def test_a_wrong_value_names_its_source(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"BERTQ_{name.upper()} is '{value}'"):
        Settings.read({f"BERTQ_{name.upper()}": value}, {})
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} is '{value}'"):
        Settings.read({}, {name: value})


def test_every_setting_is_an_option_of_the_worker() -> None:
    names = [option.name for option in settings_options(click.Option)]
    assert names == list(Settings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("redis://h", "redis://h/0"),
        ("redis://h:1/3", "redis://h:1/3"),
        ("redis://u:p%40@h:1/3", "redis://u:p%40@h:1/3"),
        ("redis://[::1]:7/2", "redis://[::1]:7/2"),
        ("rediss://h/1", "rediss://h/1?ssl_cert_reqs=required"),
        ("rediss://h/1?ssl_cert_reqs=none", "rediss://h/1?ssl_cert_reqs=none"),
    ],
)
def test_urls_are_completed(given: str, full: str) -> None:
    assert redis_url.check(given) == full


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:1",
        "http://h",
        "redis://",
        "redis://h:99999",
        "redis://h/x",
        "redis://:pw@/0",
        "redis://me:12/pw@h/0",
        "redis://me:12?pw@h/0",
        "redis://:se/pw@h",
        "redis://:se#pw@h/0",
        "redis://:[pw]@h/0",
        "redis://:pw\udcff@h/0",
        "redis://h/0?password=pw",
        "rediss://h/0?ssl_password=pw",
        "redis://h/0?ssl_cert_reqs=none",
        "rediss://h/0?nonsense=1",
    ],
)
def test_wrong_urls_are_refused_without_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        redis_url.check(url, "BERTQ_REDIS_URL")
    assert "BERTQ_REDIS_URL" in str(caught.value)
    assert "pw" not in str(caught.value)


def test_addresses_become_urls() -> None:
    assert redis_url.from_address("localhost", 6380) == "redis://localhost:6380/0"
    assert redis_url.from_address("::1", 6380) == "redis://[::1]:6380/0"
    assert redis_url.from_environ({}) == "redis://localhost:6379/0"
    assert redis_url.from_environ({"BERTQ_REDIS_URL": "redis://h/2"}) == "redis://h/2"
    for host, port in (("", 1), ("a/b", 1), ("u@h", 1), ("h", 0), ("h", 65536), ("h", True)):
        with pytest.raises(SettingsError):
            redis_url.from_address(host, port)


def test_passwords_are_hidden() -> None:
    assert redis_url.redact("redis://me:secret@h:1/0") == "redis://me:**@h:1/0"
    assert redis_url.redact("redis://:s3@cret@h/0") == "redis://:**@h/0"
    assert redis_url.redact("redis://h/0") == "redis://h/0"
    assert redis_url.redact("redis://h/0?password=secret") == "redis://h/0"


def test_queue_names() -> None:
    assert queues.parse_device("gpu0") == Device("gpu", 0)
    assert queues.parse_device("cpu12") == Device("cpu", 12)
    assert queues.device_of(["bertq", "bertq.small"]) is None
    assert queues.device_of(["bertq", "gpu1"]) == Device("gpu", 1)
    assert queues.check("bertq.small") == "bertq.small"
    for name in ("gpu", "gpu-1", "gpu01", "GPU0", "tpu0", "bert", "celery", ""):
        assert queues.parse_device(name) is None
        with pytest.raises(SettingsError, match="no queue is named"):
            queues.check(name)
    with pytest.raises(SettingsError, match="one device, not on gpu0, gpu1"):
        queues.device_of(["gpu1", "gpu0"])


def test_task_ids_name_the_job_and_the_chunk() -> None:
    assert keys.split_task_id(keys.task_id("abc", 12)) == ("abc", 12)
    for other in ("", "abc", "abc-", "-1", "abc-x", "abc--", "abc-٣", "a-" + "9" * 5000):
        assert keys.split_task_id(other) is None
