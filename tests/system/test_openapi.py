"""Schemathesis against both OpenAPI documents, on a real server: it answers as its documents say, never 5xx.

Bounded: a fixed number of examples for each operation, always the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.dev import Served, whook_serve

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 15


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with whook_serve(Path(tmp_path_factory.mktemp("server"))) as running:
        yield running


def operations(url: str) -> list[Any]:
    document = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    found: list[Any] = list(schema.get_all_operations())
    return [operation.ok() for operation in found]


@pytest.mark.parametrize("service", ["conductor", "auth"])
def test_answers_as_documented(server: Served, service: str) -> None:
    url = server.api if service == "conductor" else server.auth
    tried = 0
    for operation in operations(url):
        # It revokes the very token that the others need.
        if operation.path == "/v1/tokens/current":
            continue

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            # One session: a connection of its own for every call would meet the limit on one address.
            case.call_and_validate(
                checks=CHECKS, headers={"Authorization": f"Bearer {server.token}"}, session=session
            )

        with requests.Session() as session:
            check()
        tried += 1
    assert tried >= 4
