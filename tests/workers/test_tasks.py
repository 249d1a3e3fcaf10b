"""The task's own checks, and the log lines that Celery must not write."""

import logging
from typing import Any

import pytest

from bertq.errors import BadInputType, BadInputValue
from bertq_workers import tasks
from bertq_workers.tasks import TokenizerError, check_chunk


@pytest.mark.parametrize("texts", [None, "a", {"a": 1}, [1], ["a", None], [["a"]]])
def test_what_is_no_chunk(texts: Any) -> None:
    with pytest.raises(BadInputType, match="a list of str"):
        check_chunk(texts)


def test_chunks_out_of_bounds() -> None:
    check_chunk(["a"])
    with pytest.raises(BadInputValue, match="0 sentences"):
        check_chunk([])
    with pytest.raises(BadInputValue, match="4097 sentences"):
        check_chunk(["a"] * 4097)
    with pytest.raises(BadInputValue, match="characters"):
        check_chunk(["a" * (10 * 2**20 + 1)])


def test_an_error_of_the_tokenizer_quotes_nothing() -> None:
    class Broken:
        def tokenize(self, texts: list[str]) -> list[list[int]]:
            raise ValueError(f"cannot read {texts[0]}")

    encoder: Any = Broken()
    with pytest.raises(TokenizerError, match=r"refused the chunk \(ValueError\)") as caught:
        tasks._encode(encoder, ["a secret"])
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_celery_leaves_the_chunks_lines_to_us() -> None:
    assert not logging.getLogger("celery.worker.strategy").isEnabledFor(logging.INFO)
    assert not logging.getLogger("celery.app.trace").isEnabledFor(logging.ERROR)
    assert logging.getLogger("celery.app.trace").isEnabledFor(logging.CRITICAL)


@pytest.mark.parametrize("name", ["celery.worker.consumer.consumer", "celery.worker.worker"])
def test_trouble_with_redis_is_a_line_and_no_traceback(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    consumer = logging.getLogger(name)
    caplog.set_level(logging.WARNING, name)
    for error in (ConnectionError("gone"), ZeroDivisionError("our own mistake")):
        try:
            raise error
        except Exception:
            consumer.warning("lost %s\n", "it", exc_info=True)
    lost, mistake = caplog.records
    assert (lost.getMessage(), lost.exc_info) == ("lost it (ConnectionError: gone)", None)
    assert mistake.exc_info is not None
