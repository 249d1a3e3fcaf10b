"""The table of settings, URLs and keys."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from bertq.config.options import refuse_old_spelling, settings_options
from bertq.config.settings import Settings, variable, variables
from bertq.errors import SettingsError
from bertq.protocol import keys
from bertq.redis import redis_url


def test_the_directory_decides_by_default() -> None:
    assert Settings.read({}, {}) == Settings(
        model_dir=None,
        tuned_model_dir=None,
        ckpt_name=None,
        config_name=None,
        model_name=None,
        cased=None,
        compat=None,
        max_seq_len=None,
        max_batch_size=256,
        priority_batch_size=16,
        pooling_strategy=None,
        pooling_layer=None,
        num_labels=None,
        mask_cls_sep=False,
        no_special_token=False,
        no_position_embeddings=False,
        dtype="float32",
        int8_ranges=None,
        threads=None,
        gpu_memory_fraction=None,
        batch_timeout=300.0,
        show_tokens_to_client=True,
    )


def test_options_override_variables() -> None:
    environ = {
        "BERTQ_MODEL_DIR": "/models/a",
        "BERTQ_COMPAT": " Bert-as-Service",
        "BERTQ_INT8_RANGES": "ranges.json",
        "BERTQ_MAX_SEQ_LEN": "None",
        "BERTQ_POOLING_LAYER": "-1,-2",
        "BERTQ_POOLING_STRATEGY": "cls_token",
        "BERTQ_THREADS": "3",
        "BERTQ_BATCH_TIMEOUT": "2.5",
        "BERTQ_DTYPE": "",
        "BERTQ_CASED": "off",
        "BERTQ_MASK_CLS_SEP": " Yes",
        "BERTQ_SHOW_TOKENS_TO_CLIENT": "1",
        "BERTQ_NUM_LABELS": "3",
        "BERTQ_GPU_MEMORY_FRACTION": "1",
    }
    options = {
        "threads": "2",
        "model_dir": None,
        "loglevel": "INFO",
        "show_tokens_to_client": False,
    }
    assert Settings.read(environ, options) == Settings(
        model_dir="/models/a",
        compat="bert-as-service",
        max_seq_len="none",
        pooling_strategy="CLS_TOKEN",
        pooling_layer=(-1, -2),
        threads=2,
        batch_timeout=2.5,
        cased=False,
        mask_cls_sep=True,
        show_tokens_to_client=False,
        num_labels=3,
        int8_ranges="ranges.json",
        gpu_memory_fraction=1.0,
    )


def test_options_are_handed_on_as_variables() -> None:
    options = {"cased": False, "mask_cls_sep": True, "threads": "2", "ckpt_name": None, "port": 1}
    handed = variables(options)
    assert handed == {
        "BERTQ_CASED": "false",
        "BERTQ_MASK_CLS_SEP": "true",
        "BERTQ_THREADS": "2",
    }
    assert Settings.read(handed, {}) == Settings.read({}, options)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("reduce_mean_max", "REDUCE_MEAN_MAX"),
        ("None", "NONE"),
        ("Mean", "mean"),
        ("MEAN_SQRT_LEN_TOKENS", "mean_sqrt_len_tokens"),
        ("max + Mean", "max+mean"),
        ("median", "MEDIAN"),
        ("mean+median", "MEAN+MEDIAN"),
    ],
)
def test_names_of_pooling_strategies(given: str, name: str) -> None:
    assert Settings.read({}, {"pooling_strategy": given}).pooling_strategy == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compat", "tei"),
        ("int8_ranges", " "),
        ("pooling_strategy", " "),
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
        ("tuned_model_dir", " "),
        ("ckpt_name", " "),
        ("config_name", " "),
        ("cased", "maybe"),
        ("mask_cls_sep", "2"),
        ("no_special_token", "None"),
        ("no_position_embeddings", "-"),
        ("show_tokens_to_client", "t"),
        ("num_labels", "0"),
        ("gpu_memory_fraction", "0"),
        ("gpu_memory_fraction", "1.01"),
        ("gpu_memory_fraction", "nan"),
        ("gpu_memory_fraction", "half"),
        ("model_name", "a.b"),
        ("model_name", "gpu0"),
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


def given(*arguments: str) -> dict[str, Any]:
    """The options that a command receives: only those that were given."""
    found: dict[str, Any] = {}
    command = click.Command(
        "worker",
        params=[*settings_options(click.Option)],
        callback=lambda **all_: found.update(all_),
    )
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {name: value for name, value in found.items() if value is not None}


def test_flags_take_no_value() -> None:
    assert given() == {}
    assert given("--cased") == given("--cased-tokenization") == {"cased": True}
    assert given("--uncased", "--mask-cls-sep") == {"cased": False, "mask_cls_sep": True}
    assert given("--no-show-tokens-to-client") == {"show_tokens_to_client": False}
    assert given("--no-special-token") == {"no_special_token": True}
    assert given("--no-position-embeddings") == {"no_position_embeddings": True}


def test_every_option_says_its_variable_and_its_default() -> None:
    helps = {str(option.name): str(option.help) for option in settings_options(click.Option)}
    assert all(f"[{variable(name)}" in text for name, text in helps.items())
    assert helps["show_tokens_to_client"].endswith("[BERTQ_SHOW_TOKENS_TO_CLIENT; default on]")
    assert helps["mask_cls_sep"].endswith("[BERTQ_MASK_CLS_SEP]")


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("redis://h", "redis://h/0"),
        ("redis://h:1/3", "redis://h:1/3"),
        ("redis://u:p%40@h:1/3", "redis://u:p%40@h:1/3"),
        ("redis://u;:p@;,[%]+:%3b\u00e9@h", "redis://u%3B:p%40%3B%2C%5B%25%5D%2B%3A%3B%C3%A9@h/0"),
        ("redis://u:@h/0", "redis://u:@h/0"),
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
        "redis:/:pw@h/0",
        ":pw@h",
        "redis://:x@pw;y/0",
        "redis://:x@h;redis://:pw@h2/0",
        "redis://pw@h/0",
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
    assert redis_url.redact("redis://:se://cret@h/0") == "redis://:**@h/0"
    assert redis_url.redact("redis://secret@h/0") == "redis://**@h/0"
    assert redis_url.redact("redis:/:secret@h/0") == "**@h/0"
    assert redis_url.redact("redis://h/0") == "redis://h/0"
    assert redis_url.redact("redis://h/0?password=secret") == "redis://h/0"


def test_task_ids_name_the_job_and_the_chunk() -> None:
    assert keys.split_task_id(keys.task_id("abc", 12)) == ("abc", 12)
    for other in ("", "abc", "abc-", "-1", "abc-x", "abc--", "abc-٣", "a-" + "9" * 5000):
        assert keys.split_task_id(other) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker", "-fp16"], "-fp16 is an option of bert-as-service"),
        (["-num_worker=2"], "two dashes here, and - instead of _: --num-worker$"),
        (["-model_dir", "x"], "instead of _: --model-dir$"),
    ],
)
def test_old_spellings_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        refuse_old_spelling(arguments)


def test_new_spellings_and_those_of_celery_are_not_refused() -> None:
    refuse_old_spelling(["-A", "bertq", "-linfo", "-c1", "-Qgpu0", "--fp16", "--model-dir", "cpu"])
