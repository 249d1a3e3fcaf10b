"""Names of queues: shared ones, those of a device, and those of a model."""

from typing import Any

import pytest

from bertq.errors import SettingsError
from bertq.protocol import queues
from bertq.protocol.queues import Device


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


def test_queues_of_a_model() -> None:
    named, unnamed = queues.of_model("news-2_B"), queues.of_model(None)
    assert (named.shared, named.small) == ("bertq.news-2_B", "bertq.news-2_B.small")
    assert (unnamed.shared, unnamed.small) == (queues.SHARED, queues.SMALL)
    assert [named.for_size(rows) for rows in (0, 16, 17)] == [named.small] * 2 + [named.shared]
    for name in ("gpu0", "bertq.news-2_B.gpu0"):
        assert named.full_name(name) == "bertq.news-2_B.gpu0"
    assert unnamed.full_name("gpu0") == "gpu0"
    for name in (named.shared, named.small, named.full_name("cpu3")):
        assert queues.check(name) == named.full_name(name) == name
        assert queues.model_of(name) == "news-2_B"
    assert queues.parse_device("bertq.a.gpu12") == Device("gpu", 12)
    assert queues.device_of(["bertq.a.cpu1", "bertq.a"]) == Device("cpu", 1)
    assert queues.parse_device("bertq.a.small") is None
    shared = ["bertq", "bertq.small", "bertq.a", "bertq.a.small"]
    assert [
        name for name in [*shared, "gpu0", "bertq.a.gpu0", "?"] if queues.is_shared(name)
    ] == shared
    assert [name for name in [*shared, "?"] if queues.is_small(name)] == shared[1::2]


def test_queues_that_no_model_has() -> None:
    for name in (
        *("bertq.", "bertq.gpu0", "bertq.small.small", "bertq.gpu0.gpu1", "BERTQ.a", "a.gpu0"),
        *("bertq.a.", "bertq.a.b", "bertq.a.gpu01", "bertq.a.small.small", "bertq.a\n"),
        "bertq." + "a" * 65,
    ):
        assert queues.parse_device(name) is None
        with pytest.raises(SettingsError, match="no queue is named"):
            queues.check(name)


def test_a_queue_of_another_model() -> None:
    for mine, queue, reason in (
        ("a", "bertq", "bertq belongs to the model without a name, not to model a"),
        ("a", "bertq.b.gpu0", "bertq.b.gpu0 belongs to model b, not to model a"),
        (None, "bertq.b", "bertq.b belongs to model b, not to the model without a name"),
    ):
        with pytest.raises(SettingsError, match=reason):
            queues.of_model(mine).full_name(queue)


def test_an_option_of_another_type_is_refused() -> None:
    number: Any = 5
    with pytest.raises(SettingsError, match="no queue is named 5"):
        queues.of_model(None).full_name(number)
    with pytest.raises(SettingsError, match="no model can be named 5"):
        queues.of_model(number)


def test_names_of_models() -> None:
    for name in ("a", "7", "-", "_", "GPU0", "gpu", "gpu01", "gpu0-large", "Small", "x" * 64):
        assert queues.check_model(name) == name
    for name in ("", "small", "gpu0", "cpu12", "a.b", "a b", "a\n", "é", "a:b", "x" * 65):
        with pytest.raises(SettingsError, match=r"no model can be named .* letters, digits"):
            queues.of_model(name)
