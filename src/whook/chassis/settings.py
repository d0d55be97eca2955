"""Settings: flags before environment before TOML file before defaults, and nothing unknown accepted.

Each service subclasses Settings with its own section. Only the composition root calls load; a settings object
made directly (in a test, say) reads neither environment nor files.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretBytes, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as _SourceError

from whook.chassis.drain import DEFAULT_GRACE
from whook.chassis.listen import check_address

PREFIX = "WHOOK_"
MAX_SECRET_FILE = 65_536
"""Largest file in bytes that a secret is read from: the wrong path must not be read whole."""


_Origin = Callable[[str], str]
"""Names a setting the way its source writes it."""


class SettingsError(Exception):
    """Settings cannot be used. Each line of its text is one fault, with the setting and its origin."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


class Settings(BaseSettings):
    """Base of all settings.

    ``section`` names the table of the TOML file (``[relay]``) and the environment variables
    (``WHOOK_RELAY_HEARTBEAT``). A field of type SecretStr or SecretBytes can also be given as a path, under
    its name with ``_file`` appended (``WHOOK_RELAY_SIGNING_KEY_FILE``): the secret is that file's content
    without the line break at its end. A service manager may hand secrets over as well: a file
    ``relay.signing_key`` in ``$CREDENTIALS_DIRECTORY`` (systemd.exec(5)). Secrets are masked wherever
    settings are shown.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    section: ClassVar[str] = ""

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        config_file: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the settings from ``flags``, the environment, credentials, ``config_file`` or the defaults.

        A flag whose value is None was not given. ``options`` has the command line's names of those flags that
        are called differently there. The tables of other sections in the file are ignored. Raises
        SettingsError for unknown names, values that do not fit, and files that cannot be read.
        """
        faults: list[str] = []
        merged: dict[str, Any] = {}
        origins: dict[str, str] = {}
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        sources: list[tuple[dict[str, Any], _Origin]] = [
            (cls._table(config_file, faults), partial(cls._key, config_file)),
            (cls._credentials(), cls._credential),
            (cls._environment(faults), cls._variable),
            (given, partial(cls._flag, options or {})),
        ]
        for values, origin in sources:
            cls._read_secret_files(values, origin, faults)
            for name, value in values.items():
                if name not in cls.model_fields:
                    faults.append(f"unknown setting {origin(name)}{cls._closest(name, origin)}")
                    continue
                merged[name] = value
                origins[name] = origin(name)
        if faults:
            raise SettingsError(faults)
        try:
            return cls(**merged)
        except ValidationError as error:
            raise SettingsError(cls._faults(error, origins)) from None

    def secrets(self) -> Iterator[str]:
        """Give the texts that must be seen nowhere: each secret, of a URL only what is secret in it."""
        for name in sorted(self._secrets()):
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, (SecretStr, SecretBytes)) else ""
            if isinstance(text, bytes):
                text = text.decode("latin-1")
            parts = urlsplit(text) if "://" in text else None
            if parts is None:
                yield from (part.strip() for part in text.split(","))
            elif found := parts.password or parts.username:
                yield from (found, unquote(found))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is passed: load has already merged the other sources."""
        return (init_settings,)

    @classmethod
    def _prefix(cls) -> str:
        return PREFIX + (f"{cls.section.upper()}_" if cls.section else "")

    @classmethod
    def _variable(cls, name: str) -> str:
        return cls._prefix() + name.upper()

    @classmethod
    def _flag(cls, options: Mapping[str, str], name: str) -> str:
        return options.get(name) or "--" + name.replace("_", "-")

    @classmethod
    def _key(cls, config_file: Path | None, name: str) -> str:
        return f"{name} in {f'[{cls.section}] of ' if cls.section else ''}{config_file}"

    @classmethod
    def _secrets(cls) -> set[str]:
        """Return the fields that may come from a file."""
        kinds: set[Any] = {SecretStr, SecretBytes}
        return {
            name
            for name, field in cls.model_fields.items()
            if kinds & {field.annotation, *get_args(field.annotation)}
        }

    @classmethod
    def _table(cls, config_file: Path | None, faults: list[str]) -> dict[str, Any]:
        if config_file is None:
            return {}
        try:
            document = tomllib.loads(config_file.read_text("utf-8"))
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not TOML
            faults.append(f"cannot read {config_file}: {error}")
            return {}
        if not cls.section:
            # Other sections are tables; only a field of that name makes a table part of this one.
            return {
                name: value
                for name, value in document.items()
                if not isinstance(value, dict) or name in cls.model_fields
            }
        table = document.get(cls.section, {})
        if not isinstance(table, dict):
            faults.append(f"{cls.section} in {config_file} must be a table: write [{cls.section}]")
            return {}
        return {name.replace("-", "_"): value for name, value in table.items()}

    @classmethod
    def _environment(cls, faults: list[str]) -> dict[str, Any]:
        prefix = cls._prefix()
        known = {name.upper() for name in cls.model_fields}
        files = {f"{name}_FILE" for name in (secret.upper() for secret in cls._secrets())}
        values: dict[str, Any] = {}
        for variable, value in os.environ.items():
            if not variable.startswith(prefix) or not value:
                continue
            rest = variable.removeprefix(prefix)
            if rest in files:
                values[rest.lower()] = value
            elif cls.section and rest.partition("__")[0] not in known:
                values[rest.lower()] = value  # the caller reports it
        try:
            values.update(EnvSettingsSource(cls, env_prefix=prefix)())
        except _SourceError as error:
            faults.append(f"{error}")
        return values

    @classmethod
    def _credential(cls, name: str) -> str:
        return f"the credential {cls.section}.{name.removesuffix('_file')}"

    @classmethod
    def _credentials(cls) -> dict[str, Any]:
        """Return the secrets that a service manager has laid ready, as the paths of their files."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder or not cls.section:
            return {}
        paths = {name: Path(folder, f"{cls.section}.{name}") for name in cls._secrets()}
        return {f"{name}_file": str(path) for name, path in paths.items() if path.is_file()}

    @classmethod
    def _read_secret_files(cls, values: dict[str, Any], origin: _Origin, faults: list[str]) -> None:
        for name in cls._secrets():
            path = values.pop(f"{name}_file", None)
            if path is None:
                continue
            where = origin(f"{name}_file")
            if name in values:
                faults.append(f"{where} and {origin(name)} are both set: remove one of them")
                continue
            try:
                with Path(path).open("rb") as file:
                    content = file.read(MAX_SECRET_FILE + 1)
                if len(content) > MAX_SECRET_FILE:
                    faults.append(f"{where}: {path} is larger than {MAX_SECRET_FILE} bytes")
                values[name] = content.decode().removesuffix("\n").removesuffix("\r")
            except (OSError, TypeError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                faults.append(f"{where}: cannot read {path}: {reason}")

    @classmethod
    def _closest(cls, name: str, origin: _Origin) -> str:
        found = difflib.get_close_matches(name, list(cls.model_fields), n=1)
        return f"; did you mean {origin(found[0])}?" if found else ""

    @classmethod
    def _faults(cls, error: ValidationError, origins: dict[str, str]) -> list[str]:
        faults: list[str] = []
        for entry in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(entry["loc"][0]) if entry["loc"] else ""
            path = ".".join(str(part) for part in entry["loc"][1:])
            place = origins.get(name) or (cls._variable(name) if name else "settings")
            if entry["type"] == "missing" and not path:
                faults.append(f"{place} is not set")
            else:
                fault = entry["msg"].removeprefix("Value error, ")
                faults.append(f"{place}{f' ({path})' if path else ''}: {fault}")
        return faults


class DaemonSettings(Settings):
    """What run_daemon needs, the same for every daemon."""

    section: ClassVar[str] = "daemon"

    admin: str = Field(
        "127.0.0.1:8083", description="Address of /metrics, /healthz and /readyz; empty for none."
    )
    drain_seconds: float = Field(
        DEFAULT_GRACE, gt=0, le=3600, description="Longest time from the first signal to the end."
    )
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_exchanges: float = Field(
        0.0, ge=0, le=1, description="Share of exchanges that get a log line each; all do at debug."
    )
    error_dsn: SecretStr = Field(
        SecretStr(""), description="Where errors are reported to (Sentry's protocol); empty: nowhere."
    )
    error_environment: str = Field("production", description="Told with each error, and with traces.")

    @field_validator("admin")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            check_address(value)
        return value
