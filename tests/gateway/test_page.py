"""The page at ``/``, in Chromium."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bertq.protocol import queues
from bertq.protocol.encoding import Options
from bertq_bert import Encoder
from bertq_client.search import similarity
from bertq_gateway.page import FILES_PATH
from tests.gateway.chromium import CHROMIUM, Tab, tab
from tests.gateway.conftest import Gateway, running
from tests.tiny_service import TinyService, tiny_service

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TEXTS = ["who keeps the light", "the light of the old harbour", "<img src=x onerror=alert(1)>"]
KEY = "a-key-of-sixteen"
LONG = "long " * 200

#: The contrast of the cell of the matrix that has the least.
LEAST_CONTRAST = """(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (color) => {
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return Math.min(...[...document.querySelectorAll("#matrix tbody td")].map((cell) => {
    const { color, backgroundColor } = getComputedStyle(cell);
    const [low, high] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
})()"""


@pytest.fixture(scope="module")
def service(module_redis_url: str) -> Iterator[TinyService]:
    models: dict[str | None, str | Encoder] = {
        None: "bert-prompt",
        "ranker": "cross-bert",
        "labels": "cross-bert-3",
        "sparse": "splade-bert",
    }
    with tiny_service(module_redis_url, models) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(module_redis_url: str, service: TinyService) -> Iterator[Gateway]:
    with running(module_redis_url) as made:
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("profile")) as made:
        yield made
        assert made.errors == []


def address(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/"


def text_of(browser: Tab, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).textContent"))


def wait_for_text(browser: Tab, selector: str, text: str) -> None:
    """Wait until a visible element has a text."""
    element = f"document.querySelector({json.dumps(selector)})"
    browser.wait_for(f"{element}.checkVisibility() && {element}.innerText.includes({text!r})")


def compare(browser: Tab, texts: list[str], model: str = "bert-prompt", prompt: str = "") -> None:
    """Fill in the form, and send it with the keyboard."""
    browser.wait_for(
        f"[...document.querySelectorAll('#model option')].some(o => o.value == {model!r})"
    )
    browser.run(
        f"""(() => {{
          const set = (id, value) => {{
            const field = document.getElementById(id);
            field.value = value;
            field.dispatchEvent(new Event("change"));
          }};
          set("model", {model!r});
          set("prompt", {prompt!r});
          set("sentences", {json.dumps(chr(10).join(texts))});
          document.getElementById("sentences").focus();
        }})()"""
    )
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=2,
        )  # fmt: skip


def matrix(browser: Tab) -> Any:
    rows = browser.run(
        "[...document.querySelectorAll('#matrix tbody tr')].map(row =>"
        " [...row.querySelectorAll('td')].map(cell => cell.textContent))"
    )
    return np.array([[float(cell.replace("\u2212", "-")) for cell in row] for row in rows])


def test_programs_get_no_page(gateway: Gateway) -> None:
    for accept in ("*/*", "application/json"):
        answer = gateway.http.get("/", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json()["error_type"] == "validation"
    assert gateway.http.post("/", json={"inputs": "a"}, headers=HTML).json()


def test_the_page_is_strict_and_loads_nothing_from_elsewhere(gateway: Gateway) -> None:
    with running("redis://127.0.0.1:1/0", api_keys=frozenset({KEY})) as locked:
        page = locked.http.get("/", headers=HTML)
        assert locked.http.post("/", json={"inputs": "a"}, headers=HTML).status_code == 401
        files = re.findall(rf'(?:src|href)="({FILES_PATH[1:]}/[^"]*)"', page.text)
        files += [f"page/{name}" for name in re.findall(r'from "./(.*?)"', page.text)]
        assert {"page/main.js", "page/page.css", "page/icon.svg"} <= set(files)
        for name in files:
            found = locked.http.get(f"/{name}")
            assert (found.status_code, found.headers["x-content-type-options"]) == (200, "nosniff")
        for path in ("/page/nope.js", "/page/../__init__.py", "/page/%2e%2e/__init__.py"):
            assert locked.http.get(path).status_code in (401, 404)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "http" not in page.text
    assert gateway.http.head("/", headers=HTML).status_code == 200


@in_browser
@pytest.mark.parametrize(
    ("model", "prompt"),
    [("bert-prompt", ""), ("bert-prompt", "query"), ("sparse", ""), ("ranker", ""), ("labels", "")],
)
def test_the_matrix_has_the_numbers_of_the_model(
    browser: Tab, gateway: Gateway, service: TinyService, model: str, prompt: str
) -> None:
    encoder = service.encoders[None if model == "bert-prompt" else model]
    browser.open(address(gateway))
    compare(browser, TEXTS, model, prompt)
    wait_for_text(browser, "#compare-note", "3 sentences in ")
    options: Any = Options(prompt_name=prompt) if prompt else {}
    if model == "ranker":
        pairs = [(query, text) for query in TEXTS for text in TEXTS]
        expected = encoder.encode(pairs).reshape(3, 3)
    elif model == "labels":
        expected = encoder.encode(TEXTS)
    else:
        vectors = encoder.encode(TEXTS, **options)
        expected = similarity.compute(encoder.similarity or similarity.DEFAULT, vectors, vectors)
    if encoder.activation == "identity":
        powers = np.exp(expected)
        expected = (
            powers / powers.sum(1, keepdims=True) if model == "labels" else 1 / (1 + 1 / powers)
        )
    np.testing.assert_allclose(matrix(browser), expected, atol=0.006)
    # A sentence is text, never HTML.
    assert TEXTS[2] in text_of(browser, "#matrix tbody tr:last-child th[scope=row]")
    assert browser.run("document.querySelector('#result img')") is None
    if model == "labels":
        heads = browser.run(
            "[...document.querySelectorAll('#matrix th[scope=col]')].map(c => c.innerText)"
        )
        assert heads == list(encoder.labels)
        return
    best = text_of(browser, "#pairs li .value")
    first = np.where(np.eye(3), -np.inf, expected).max()
    assert float(best.replace("\u2212", "-")) == pytest.approx(first, abs=0.006)


@in_browser
def test_the_state_of_the_service(browser: Tab, gateway: Gateway) -> None:
    browser.open(address(gateway))
    wait_for_text(browser, "#health", "ready")
    for cell in ("ranker@test", "cpu0", queues.of_model("sparse").small):
        wait_for_text(browser, "#live", cell)
    compare(browser, TEXTS)
    wait_for_text(browser, "#routes", "/v1/embeddings")
    browser.run("document.getElementById('pause').click()")
    wait_for_text(browser, "#pause", "Continue")


@in_browser
def test_it_fits_a_phone_and_follows_the_color_scheme(browser: Tab, gateway: Gateway) -> None:
    browser.open(address(gateway))
    compare(browser, [f"{text} {number}" for text in TEXTS for number in range(5)])
    wait_for_text(browser, "#compare-note", "15 sentences")
    wait_for_text(browser, "#live", "ranker@test")
    colors = set()
    for scheme in ("light", "dark"):
        browser.emulate(width=360, scheme=scheme)
        assert browser.run("document.documentElement.scrollWidth") <= 360
        colors.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert browser.run(LEAST_CONTRAST) >= 4.5  # WCAG's level AA
    browser.emulate()
    assert len(colors) == 2


@in_browser
def test_the_errors_of_the_api(
    browser: Tab, gateway: Gateway, module_redis_url: str, service: TinyService
) -> None:
    limit = service.encoders[None].max_seq_len
    browser.open(address(gateway))
    compare(browser, [TEXTS[0], LONG])
    wait_for_text(browser, "#compare-note", f"Cut to {limit} tokens: sentence 2.")
    compare(browser, TEXTS[:1])
    wait_for_text(browser, "#compare-error", "Enter at least two sentences")
    compare(browser, TEXTS * 20)
    wait_for_text(browser, "#compare-error", "There are 60 sentences: enter at most 40.")
    assert not browser.run("document.getElementById('result').checkVisibility()")
    with running(module_redis_url, truncate="error") as strict:
        browser.open(address(strict))
        compare(browser, [TEXTS[0], LONG])
        wait_for_text(browser, "#compare-error", "input[1]")
    wait_for_text(browser, "#health", "no answer")
    compare(browser, TEXTS)
    wait_for_text(browser, "#compare-error", "The gateway does not answer.")
    wait_for_text(browser, "#service-error", "The gateway does not answer.")


@in_browser
def test_no_workers_and_no_redis(browser: Tab, redis_url: str) -> None:
    for url, message in (
        (redis_url, "No worker is alive"),
        ("redis://127.0.0.1:1/0", "cannot be reached"),
    ):
        with running(url) as empty:
            browser.open(address(empty))
            wait_for_text(browser, "#health", "not ready")
            wait_for_text(browser, "#service-error", message)
            browser.run("document.getElementById('compare-button').click()")
            wait_for_text(browser, "#compare-error", message)
    wait_for_text(browser, "#service-error", "The gateway does not answer.")
    browser.run("document.getElementById('compare-button').click()")
    wait_for_text(browser, "#compare-error", "The gateway does not answer.")


@in_browser
def test_a_key(browser: Tab, module_redis_url: str, service: TinyService) -> None:
    with running(module_redis_url, api_keys=frozenset({KEY})) as locked:

        def enter(key: str) -> None:
            browser.wait_for("document.activeElement.id == 'key-input'")
            browser.call("Input.insertText", text=key)
            browser.run("document.querySelector('#key-form button').click()")

        browser.open(address(locked))
        wait_for_text(browser, "#service-error", "Enter an API key")
        enter("a-wrong-key-of-some-length")
        wait_for_text(browser, "#key-error", "does not accept this key")
        browser.run("document.getElementById('key-input').focus()")
        enter(KEY)
        wait_for_text(browser, "#workers", "ranker@test")
        assert not browser.run("document.getElementById('key').checkVisibility()")
        compare(browser, TEXTS)
        wait_for_text(browser, "#compare-note", "3 sentences")
        assert browser.run(
            "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"
        ) == (json.dumps([{"bertq-api-key": KEY}, {}, ""], separators=(",", ":")))
        browser.run("document.getElementById('forget-key').click()")
        browser.wait_for(
            "!sessionStorage.length && document.getElementById('key').checkVisibility()"
        )
