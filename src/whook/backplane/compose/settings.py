"""Where the daemons of a cluster find what they share: Redis, auth, and each service's own database.

Loaded by the composition roots. All URLs of servers are secrets, since they may hold passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

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
