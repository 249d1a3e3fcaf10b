"""Requests to the gateway and to the dashboard of the compose file's services."""

import json
import urllib.request
from base64 import b64encode

from tests.compose.services import Services


def embed(services: Services, texts: list[str]) -> list[list[float]]:
    """Return the vectors of ``texts``, from the gateway with its key."""
    url = f"http://127.0.0.1:{services.gateway_port}/v1"
    login = f"Bearer {services.variables['HTTP_API_KEYS']}"
    (model,) = json.loads(_ask(services, f"{url}/models", login))["data"]
    body = json.dumps({"model": model["id"], "input": texts}).encode()
    answer = json.loads(_ask(services, f"{url}/embeddings", login, body))
    return [item["embedding"] for item in answer["data"]]


def workers_of_the_dashboard(services: Services) -> str:
    """Return the dashboard's page of workers."""
    login = b64encode(services.variables["FLOWER_LOGIN"].encode()).decode()
    url = f"http://127.0.0.1:{services.flower_port}/workers"
    return _ask(services, url, f"Basic {login}")


def _ask(services: Services, url: str, login: str, body: bytes | None = None) -> str:
    headers = {"Content-Type": "application/json", "Authorization": login}
    request = urllib.request.Request(url, body, headers)

    def send() -> str:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    return str(services.call(send))
