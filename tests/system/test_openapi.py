"""Schemathesis against both OpenAPI documents, on a real server: it answers as its documents say, never 5xx.

Bounded: a fixed number of examples for each operation, always the same ones.
"""

from __future__ import annotations

import json
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
from tests.support.rawhttp import post

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


def check_operation(server: Served, operation: Any, session: requests.Session, known: dict[str, str]) -> None:
    """Try an operation with examples; `known` are values for parts of its path that exist."""

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
        for name, value in known.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value
        if operation.path.endswith("/follow"):  # it would wait for as long as a request may take here
            case.query = {**(case.query or {}), "wait": 0}
        case.call_and_validate(
            checks=CHECKS, headers={"Authorization": f"Bearer {server.token}"}, session=session
        )

    check()


@pytest.mark.parametrize("service", ["conductor", "auth"])
def test_answers_as_documented(server: Served, service: str) -> None:
    url = server.api if service == "conductor" else server.auth
    tried = 0
    # One session: a connection of its own for every call would meet the limit on one address.
    with requests.Session() as session:
        for operation in operations(url):
            # The first revokes the very token that the others need.
            if operation.path != "/v1/tokens/current":
                check_operation(server, operation, session, {})
                tried += 1
    assert tried >= 4


def test_answers_about_what_exists_as_documented(server: Served) -> None:
    """The same on the events of a project that is there, so that the answers are not all refusals."""
    with httpx.Client(headers={"Authorization": f"Bearer {server.token}"}, trust_env=False) as client:
        client.post(f"{server.api}/v1/tunnels", json={"project": "shop"}).raise_for_status()
        answer = post(server.port, b"shop.localhost", b"\xff\x00", b"/hook", b"X-Latin: \xe9")
        assert answer.status == 202
        event = json.loads(answer.body)["event_id"]
        follow = f"{server.api}/v1/projects/shop/events/follow"
        assert client.get(follow, params={"after": 0, "wait": 30}, timeout=40).json()["events"]
    tried = []
    with requests.Session() as session:
        for operation in operations(server.api):
            if "{event}" in operation.path or operation.path.startswith("/v1/projects/{name}/"):
                check_operation(server, operation, session, {"name": "shop", "event": event})
                tried.append(operation.path)
    assert len(tried) >= 8
