"""The settings of a relay. Durations are in seconds, sizes in bytes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from whook.chassis.listen import check_address
from whook.chassis.settings import Settings


class RelaySettings(Settings):
    """What a relay can be told."""

    section: ClassVar[str] = "relay"

    relay_id: str = Field(
        "relay-1", min_length=1, max_length=63, description="Names this relay in the cluster."
    )
    listen: str = Field("127.0.0.1:8082", description="Address where clients open their tunnels (WebSocket).")
    tunnel_url: str = Field(
        "",
        description="How clients reach it, such as wss://relay-1.example.com; else the address above.",
    )
    trunk_listen: str = Field("127.0.0.1:0", description="Address where conductors open their trunks.")
    trunk_url: str = Field("", description="How conductors reach it; by default the address above.")
    cluster_key: SecretStr = Field(
        SecretStr(""), description="Shared by conductors and relays, who prove it to each other."
    )

    capacity: int = Field(19_000, ge=1, description="Tunnels held at most.")
    max_exchanges: int = Field(
        256, ge=1, description="Exchanges on one tunnel at once; OVERLOADED beyond it."
    )
    max_watchers: int = Field(16, ge=0, description="Onlookers of one project at once.")
    handshakes_per_second: float = Field(
        600.0, ge=1, description="Tunnels opened in a second; 503 with a Retry-After beyond it."
    )
    max_handshakes: int = Field(128, ge=1, description="Tunnels being opened at once; the same beyond it.")
    handshake_timeout: float = Field(10.0, gt=0, description="From accepting a connection to its tunnel.")
    heartbeat: float = Field(
        20.0, gt=0, description="A peer silent for 1.4 times as long at most is taken for dead."
    )
    lease_interval: float = Field(5.0, gt=0, description="Between two renewals of the lease.")
    lease_ttl: float = Field(15.0, gt=0, description="After which a relay that renews nothing is gone.")

    @field_validator("listen", "trunk_listen")
    @classmethod
    def _check_address(cls, value: str) -> str:
        check_address(value)
        return value
