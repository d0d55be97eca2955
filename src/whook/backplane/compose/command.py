"""The command line of a daemon: run, ``migrate``, ``--config``, ``--check-config``, and the exit status.

Each ``whook_<service>.main`` describes its daemon as a Command and calls `main`. Whatever can be mended by
the operator ends in one line and a status of its own; everything else keeps its traceback.

Exit statuses: 0 ended as asked; 1 a defect; 2 a setting is unknown or impossible; 3 an address cannot be
listened on; 4 the database's schema is not the one that this program works with; 5 something that it needs at
the start does not answer; 70 it had to end itself by force; 128 and the signal's number if a second signal
ended it.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import trio
from cyclopts import App, CycloptsError, Parameter

from whook.backplane.ports import Unavailable
from whook.chassis import metrics
from whook.chassis.daemon import Daemon, run_daemon
from whook.chassis.listen import ListenError
from whook.chassis.logs import configure_logging, get_logger, hide
from whook.chassis.settings import DaemonSettings, Settings, SettingsError

EXIT_SETTINGS = 2
EXIT_LISTEN = 3
EXIT_SCHEMA = 4
EXIT_UNAVAILABLE = 5

CONFIG_VARIABLE = "WHOOK_CONFIG"
"""Names the settings file where no ``--config`` does."""
SECTIONS = ("auth", "backplane", "conductor", "daemon", "relay")
"""The tables of the settings file. Each daemon reads some and leaves the others to the others."""

S = TypeVar("S", bound=Settings)

ConfigFile = Annotated[
    Path | None, Parameter(name="--config", help=f"Settings file (TOML); ${CONFIG_VARIABLE} by default.")
]


class Configured:
    """The settings of a daemon, by their class."""

    def __init__(self, loaded: Mapping[type[Settings], Settings]) -> None:
        self._loaded = loaded

    def __getitem__(self, kind: type[S]) -> S:
        return cast("S", self._loaded[kind])

    def secrets(self) -> Iterator[str]:
        """Give what must be seen nowhere."""
        for settings in self._loaded.values():
            yield from settings.secrets()

    def toml(self) -> str:
        """Return the settings as they count, secrets masked."""
        lines: list[str] = []
        for kind, settings in self._loaded.items():
            lines.append(f"[{kind.section}]")
            for name, value in settings.model_dump(mode="json").items():
                lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")
            lines.append("")
        return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


_log = get_logger("whook.compose")


class StoppedWaiting(Exception):
    """The daemon was told to stop before what it waited for at its start was there: no failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One daemon."""

    name: str
    help: str
    sections: tuple[type[Settings], ...]
    """What it reads beside ``[daemon]``."""
    check: Callable[[Configured], Iterable[str]]
    """Names what is missing or cannot work together, one fault each."""
    body: Callable[[Configured, Daemon], Awaitable[None]]
    """Runs the service inside its daemon."""
    migrate: Callable[[Configured], Awaitable[str]] | None = None
    """Brings its database up to date; gives a line about what was done."""
    more: Callable[[Command, App], None] | None = None
    """Adds further subcommands."""
    failures: Mapping[type[Exception], int] = field(default_factory=dict[type[Exception], int])
    """Further exceptions that an operator can mend, with their exit status."""

    def main(self) -> None:
        """Run the command line and end the process."""
        sys.exit(self(sys.argv[1:]))

    def __call__(self, arguments: list[str]) -> int:
        """Run the command line; give the exit status."""
        expected: dict[type[Exception], int] = {ListenError: EXIT_LISTEN, Unavailable: EXIT_UNAVAILABLE}
        expected.update(self.failures)
        try:
            return cast("int", self._app()(arguments, exit_on_error=False, print_error=False))
        except CycloptsError as error:
            return self._complain(EXIT_SETTINGS, [str(error)])
        except SettingsError as error:
            return self._complain(EXIT_SETTINGS, error.faults)
        except tuple(expected) as error:
            return self._complain(_status(error, expected), [str(error)])
        except ExceptionGroup as group:
            known, rest = group.split(tuple(expected))
            if known is None or rest is not None:
                raise
            first = _first(known)
            return self._complain(_status(first, expected), [str(first)])

    def _complain(self, status: int, faults: Iterable[str]) -> int:
        for fault in faults:
            sys.stderr.write(f"{self.name}: {' '.join(fault.split())}\n")
        return status

    def _app(self) -> App:
        app = App(
            name=self.name,
            help=self.help,
            help_format="plaintext",
            version=metrics.version(),
            result_action="return_value",
        )

        @app.default
        def run(
            *,
            config: ConfigFile = None,
            check_config: Annotated[
                bool,
                Parameter(
                    help="Print the settings that count, secrets masked, and name faults.", negative=""
                ),
            ] = False,
        ) -> int:
            """Run the daemon until SIGTERM or SIGINT; a second signal ends it at once."""
            if check_config:
                return self._check(config)
            configured, faults = self._load(config)
            if faults:
                raise SettingsError(faults)
            daemon = configured[DaemonSettings]
            hide(configured.secrets())
            configure_logging(daemon.log_format, daemon.log_level, exchanges=daemon.log_exchanges)

            async def main() -> int:
                async def body(daemon: Daemon) -> None:
                    try:
                        await self.body(configured, daemon)
                    except* StoppedWaiting:
                        _log.info("stopped before the database was there")

                return await run_daemon(self.name, body, settings=daemon, alone=True)

            return trio.run(main)

        migrate = self.migrate
        if migrate is not None:

            @app.command(name="migrate")
            def migrate_database(*, config: ConfigFile = None) -> int:
                """Bring the database to this program's schema; safe to repeat, and from many places."""
                sys.stdout.write(trio.run(migrate, self.load(config)) + "\n")
                return 0

        if self.more is not None:
            self.more(self, app)

        return app

    def load(self, config: Path | None) -> Configured:
        """Return the settings for a subcommand, which needs not all of them. Raises SettingsError."""
        configured, faults = self._load(config, complete=False)
        if faults:
            raise SettingsError(faults)
        return configured

    def _check(self, config: Path | None) -> int:
        configured, faults = self._load(config)
        sys.stdout.write(configured.toml())
        return self._complain(EXIT_SETTINGS if faults else 0, faults)

    def _load(self, config: Path | None, *, complete: bool = True) -> tuple[Configured, list[str]]:
        """Return what can be used of the settings, and every fault; ``complete`` has `check` look too."""
        if config is None and (named := os.environ.get(CONFIG_VARIABLE)):
            config = Path(named)
        faults = _unknown_sections(config)
        loaded: dict[type[Settings], Settings] = {}
        kinds: tuple[type[Settings], ...] = (*self.sections, DaemonSettings)
        for kind in kinds:
            try:
                loaded[kind] = kind.load(config_file=config)
            except SettingsError as error:
                faults += [fault for fault in error.faults if fault not in faults]
        configured = Configured(loaded)
        if complete and not faults:
            faults += self.check(configured)
        return configured, faults


def _unknown_sections(config: Path | None) -> list[str]:
    if config is None:
        return []
    try:
        document = tomllib.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return []  # every section will say so
    faults: list[str] = []
    for name in document:
        if name not in SECTIONS:
            close = difflib.get_close_matches(name, SECTIONS, n=1)
            mend = f"; did you mean [{close[0]}]?" if close else f"; known are {', '.join(SECTIONS)}"
            faults.append(f"unknown section [{name}] in {config}{mend}")
    return faults


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: Exception | BaseExceptionGroup[Exception] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _status(error: Exception, expected: Mapping[type[Exception], int]) -> int:
    return next(status for kind, status in expected.items() if isinstance(error, kind))
