"""Impossible settings are named; public URLs are what a sender can use."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from whook_conductor.settings import ConductorSettings


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://shop.localhost:8080"),
        ({"public_port": 80}, "http://shop.localhost"),
        ({"public_scheme": "https", "public_port": 443}, "https://shop.localhost"),
        ({"base_domain": "Hooks.Example.COM."}, "http://shop.hooks.example.com:8080"),
        ({"path_prefix": "/p/"}, "http://localhost:8080/p/shop"),
    ],
)
def test_public_urls(settings: dict[str, object], url: str) -> None:
    assert ConductorSettings.model_validate(settings).public_url("shop", 8080) == url


@pytest.mark.parametrize(
    "settings",
    [
        {"base_domain": "http://x"},
        {"base_domain": ""},
        {"path_prefix": "p"},
        {"listen": "nowhere"},
        {"header_timeout": 100, "idle_timeout": 10},
        {"max_head": 10},
        {"trusted_proxies": ["nonsense"]},
        {"proxy_protocol": "both"},
        {"unknown": 1},
    ],
)
def test_impossible_settings(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConductorSettings.model_validate(settings)


def test_the_key_is_masked() -> None:
    assert "secret" not in repr(ConductorSettings.model_validate({"cluster_key": "secret"}))
