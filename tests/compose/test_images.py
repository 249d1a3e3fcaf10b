"""All services in containers of their images, which ``.ci/images`` builds before."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bertq import BertClient
from tests.bert.conftest import GOLDEN
from tests.compose import stack
from tests.compose.containers import Containers, image_config
from tests.compose.requests import embed, workers_of_the_dashboard
from tests.waiting import eventually

#: Set by .ci/images: the image that replaces Valkey's.
REDIS_IMAGE = "BERTQ_TEST_REDIS_IMAGE"
NAMES = ("redis", "worker-cpu0", "gateway", "flower")

if REDIS_IMAGE not in os.environ:
    pytest.skip(".ci/images builds the images and runs these tests", allow_module_level=True)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[Containers]:
    """All services, healthy."""
    pinned = stack.read(stack.filled())["services"]["redis"]["image"]
    replaced = {pinned: os.environ[REDIS_IMAGE]}
    made = Containers(tmp_path_factory.mktemp("containers"), demo_model, replaced)
    try:
        for name in NAMES:
            made.start_healthy(name)
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("name", NAMES)
def test_the_process_of_a_service(services: Containers, name: str) -> None:
    status = services.status(name)
    users = status["Uid"].split()
    assert len(set(users)) == 1
    assert users[0] != "0"
    assert name == "redis" or users[0] == "10001"
    assert int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    command = services.command_line(name)
    for secret in ("redispassword", "gatewaykey", "dashboardpassword"):
        assert secret not in command


@pytest.mark.parametrize("name", NAMES)
def test_the_file_system_is_read_only(services: Containers, name: str) -> None:
    assert services.writable(name) == ({"/tmp", "/data"} if name == "redis" else {"/tmp"})
    assert services.run_inside(name, "touch", "/new").returncode != 0
    assert services.run_inside(name, "touch", "/tmp/new").returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_images_have_the_same_health_check(services: Containers, name: str) -> None:
    check = image_config(services.images[name]).get("Healthcheck")
    assert check is None or check["Test"] == services.services[name]["healthcheck"]["test"]
    assert (check is not None) == (name == "worker-cpu0")


def test_encoding(services: Containers) -> None:
    """The vectors are those of sentence-transformers."""
    texts = json.loads((GOLDEN / "minilm-st.json").read_text())["texts"]
    with np.load(GOLDEN / "minilm-st.npz") as golden:
        expected = golden["vectors"]
    rows = np.array(embed(services, texts), np.float32)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5)

    def encode() -> object:
        url = services.services["gateway"]["environment"]["BERTQ_REDIS_URL"]
        url = url.replace("@redis:", "@127.0.0.1:")
        with BertClient(redis_url=url, timeout=60, check_length=False) as client:
            return client.encode(texts)

    np.testing.assert_allclose(services.call(encode), expected, rtol=0, atol=1e-5)
    eventually(lambda: "cpu0@" in workers_of_the_dashboard(services), 30)


def test_the_end(services: Containers) -> None:
    for name in reversed(NAMES):
        assert services.stop(name) == 0, services.log(name)
    assert list((services.directory / "redis" / "appendonlydir").iterdir())
