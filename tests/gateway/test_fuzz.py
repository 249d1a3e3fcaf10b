"""Requests that are made from the gateway's own OpenAPI, right ones and wrong ones."""

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bertq_gateway.batches.settings import BatchSettings
from tests.client.stub import Stub
from tests.gateway.conftest import StartGateway


# Some errors are not in the schema: a blank sentence, a dimension that no model has.
def test_every_answer_is_as_the_manual_says(
    start_gateway: StartGateway, stub: Stub, tmp_path: Path
) -> None:
    gateway = start_gateway(batches=BatchSettings(tmp_path))
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{gateway.port}/openapi.json")
    seen = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        # Where there is nothing to send, nothing can be wrong with it.
        for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:

            @settings(max_examples=15, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                response = case.call_and_validate(excluded_checks=[positive_data_acceptance])
                assert response.status_code < 500
                seen.add((case.path, response.status_code))

            check()
    assert {path for path, _ in seen} == set(schema)
    assert {
        ("/v1/embeddings", 404),
        ("/v1/embeddings", 422),
        ("/embed", 200),
        ("/encode", 200),
        ("/v1/files", 200),
    } <= seen
