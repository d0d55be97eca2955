"""Where the daemons of a cluster find what they share: Redis, auth, and each service's own database.

Loaded by the composition roots. All URLs of servers are secrets, since they may hold passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from whook.chassis.sealing import Sealer
from whook.chassis.settings import Settings, SettingsError


class BackplaneSettings(Settings):
    """What a daemon can be told about its surroundings. One file may serve all daemons."""

    section: ClassVar[str] = "backplane"

    def faults(self, checks: Mapping[str, Callable[[str], object]]) -> Iterator[str]:
        """Yield one line for each of these settings that its check refuses with ValueError."""
        for name, check in checks.items():
            value = getattr(self, name)
            try:
                check(value.get_secret_value() if isinstance(value, SecretStr) else value)
            except ValueError as error:
                yield f"WHOOK_BACKPLANE_{name.upper()}: {error}"

    def database(self, name: str, check: Callable[[str], object]) -> str:
        """Return the URL of a database. Raises SettingsError for one that its check refuses."""
        faults = list(self.faults({name: check}))
        if faults:
            raise SettingsError(faults)
        url: SecretStr = getattr(self, name)
        return url.get_secret_value()

    url: SecretStr = Field(
        SecretStr(""),
        description="Redis: redis://user:password@host:port/database, rediss:// or unix:///path.",
    )
    conductor_database: SecretStr = Field(
        SecretStr(""), description="The conductors' database: postgresql://… or sqlite:///PATH."
    )
    auth_database: SecretStr = Field(SecretStr(""), description="Auth's database, never the conductors'.")
    auth_url: str = Field(
        "", description="How conductors and relays reach auth, such as http://10.0.0.5:8084."
    )
    auth_ca_file: Path | None = Field(
        None, description="Certificates to trust when auth_url is https; the system's by default."
    )
    service_key: SecretStr = Field(
        SecretStr(""), description="By which auth knows the services of this cluster."
    )
    previous_service_key: SecretStr = Field(
        SecretStr(""), description="Accepted by auth as well, while the service key is being replaced."
    )
    queue_url: SecretStr = Field(
        SecretStr(""),
        description="Where webhooks wait: redis://… or sqlite:///PATH; by default the Redis of url.",
    )
    queue_durability: Literal["check", "trust"] = Field(
        "check", description="Whether to look if that Redis is durable before anything is stored there."
    )
    storage_key: SecretStr = Field(
        SecretStr(""),
        description="Encrypts stored webhooks: 32 bytes in base64 or hexadecimal; former ones after a comma.",
    )

    @field_validator("storage_key")
    @classmethod
    def _check_storage_key(cls, value: SecretStr) -> SecretStr:
        Sealer.from_setting(value.get_secret_value())
        return value

    def sealer(self) -> Sealer:
        """Return what seals and opens stored webhooks; without a storage key it stores them plainly."""
        return Sealer.from_setting(self.storage_key.get_secret_value())
