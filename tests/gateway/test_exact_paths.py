"""Routes of paths without parameters are found in one step."""

from starlette.routing import Match

from bertq_gateway import app
from bertq_gateway.apis import probes
from bertq_gateway.config import Config


def test_all_routes_of_apis_are_found_by_their_path() -> None:
    made = app.create(Config("redis://127.0.0.1:1/0"))
    exact_paths = made.router.routes[0]
    rare = {route.path for route in probes.router.routes}  # type: ignore[attr-defined]
    for path, methods in made.openapi()["paths"].items():
        for method in methods:
            scope = {"type": "http", "method": method.upper(), "path": path, "app": made}
            match, _ = exact_paths.matches(scope)
            assert (match == Match.FULL) == ("{" not in path and path not in rare), path
