"""The settings of the auth service's public side: its address, how it is reached, what it believes.

Loaded by the composition root. Holds no secret.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, IPvAnyNetwork, field_validator

from whook.chassis.listen import check_address
from whook.chassis.settings import Settings


class AuthSettings(Settings):
    """What the auth service can be told."""

    section: ClassVar[str] = "auth"

    listen: str = Field("127.0.0.1:8084", description="Address of the API and of the login pages.")
    public_url: str | None = Field(
        None,
        description="How people and clients reach it, such as https://auth.example.com; by default http and "
        "the address it listens on. With https, cookies are sent over https only.",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Load balancers: their X-Forwarded-For is believed."
    )
    device_interval: int = Field(
        5, ge=0, le=60, description="Seconds between two polls of a device that is logging in."
    )

    audit_days: int = Field(
        400, ge=0, description="Days for which entries of the audit trail are kept; 0: for ever."
    )
    key_days: float = Field(
        30.0, ge=0, description="Days after which a new key signs tunnel tokens; 0: only when it is told to."
    )

    @field_validator("listen")
    @classmethod
    def _check_address(cls, value: str) -> str:
        check_address(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("write it as https://auth.example.com")
        return value.rstrip("/")
