"""The all-in-one server: auth, conductor and relay in one process on embedded twins.

The composition root of `whook dev` and `whook serve`: the one place that knows every service and every twin.
Imported lazily by `whook_cli.commands`, because the client works without the server's dependencies. It builds
and connects; it must never hold logic of a service.

    run_daemon
    └─ backplane in memory, stores and queue in SQLite, auth
       └─ services: auth · conductor · relay · keys · companion (the tunnel of `whook dev`)
          the conductor drains first, so that requests in flight still find their tunnels
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import platformdirs
import trio
from pydantic import SecretStr, ValidationError

from whook.backplane.compose import BackplaneSettings
from whook.backplane.compose.factory import MEMORY, open_backplane
from whook.backplane.memory import MemoryJournal
from whook.backplane.ports import Backplane, Queue, Unavailable
from whook.backplane.sql import (
    AUTH,
    CONDUCTOR,
    SchemaRefused,
    SqlAuthStore,
    SqlBlobs,
    SqlHistory,
    SqlProjects,
    open_database,
    open_sqlite_queue,
    sqlite_url,
)
from whook.chassis.api import Network
from whook.chassis.daemon import Daemon, run_daemon
from whook.chassis.drain import Drain
from whook.chassis.listen import ListenError, format_address
from whook.chassis.logs import configure_logging, get_logger, hide
from whook.chassis.settings import DaemonSettings, SettingsError
from whook.chassis.tunnel_token import Verifier
from whook_auth.server import AuthPorts, run_auth
from whook_auth.service import CLIENT_SCOPES, AuthService, open_auth
from whook_auth.settings import AuthSettings
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.options import ServerOptions
from whook_conductor.service import ConductorPorts, run_conductor
from whook_conductor.settings import ConductorSettings
from whook_relay.service import run_relay
from whook_relay.settings import RelaySettings

_RELAY: Final = "relay-1"
_TRUNKS: Final = "127.0.0.1:0"  #: conductor and relay are one process, so nobody else needs to reach it
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound to
#: Seconds that the relay and the companion get after the conductor has drained: nothing is in flight then.
_AFTERWARDS: Final = 5.0
KEYS_REFRESH: Final = 60.0
"""Seconds after which the relay reads auth's public keys again: they are published ten minutes ahead."""

_log = get_logger("whook.server")
#: Settings that the command line calls by another name.
_OPTIONS: Final = {
    "api": "--api-port",
    "base_domain": "--domain",
    "drain_seconds": "--drain-timeout",
    "max_connections_per_address": "--connections-per-address",
    "public_port": "--public-url",
    "public_scheme": "--public-url",
    "request_deadline": "--deadline",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A started server, as `dev` and `serve` show it and as the companion uses it."""

    api_url: str
    auth_url: str
    """Where people log in."""
    public_url: Callable[[str], str]
    """Gives the public URL of a project."""
    admin_token: Callable[[], Awaitable[str | None]]
    """Gives the token that may do everything, once for each data directory: whoever asks must show it."""
    data_dir: Path
    admin_address: str
    local_token: Callable[[], str]
    """Makes a token for a tunnel of this process; it dies with it."""
    client_token: Callable[[], str]
    """Makes one for the other commands of a client, as long-lived as that."""
    stopping: Drain
    """Begins when the server stops taking new requests; those in flight still need the companion."""
    drain: Drain
    """Begins after that, when the companion is to finish."""


LogLevel = Literal["debug", "info", "warning", "error"]
Companion = Callable[[Server], Awaitable[None]]
"""Runs beside the server from the moment it is ready; the server drains when it returns."""


async def run_allinone(
    options: ServerOptions,
    *,
    drain_seconds: float,
    default_log_level: LogLevel,
    companion: Companion,
) -> int:
    """Run the server until a signal, and return the exit status.

    Raises:
        Exit: it cannot start: a port is taken, the data directory cannot be used, a setting is impossible.
    """
    _check_url("--public-url", options.public_url, ("http", "https"))
    _check_url("--tunnel-url", options.tunnel_url, ("ws", "wss"))
    level = options.log_level or default_log_level
    configure_logging(options.log_format, level)
    try:
        settings = DaemonSettings.load(
            {
                "admin": format_address(options.admin_listen, options.admin_port),
                "drain_seconds": drain_seconds,
            },
            options=_OPTIONS,
        )
        hide([*settings.secrets(), *BackplaneSettings.load().secrets()])
        configure_logging(options.log_format, level, exchanges=settings.log_exchanges)
        return await run_daemon(
            "whook",
            lambda daemon: _Body(options, daemon, companion).run(),
            settings=settings,
            admin_option="--admin-port",
            alone=True,
        )
    except* SettingsError as group:
        raise UsageError(_first_line(group)) from group
    except* (ListenError, SchemaRefused, Unavailable) as group:
        raise Exit(ExitCode.SERVER, _first_line(group)) from group


def _check_url(option: str, url: str | None, schemes: tuple[str, str]) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        bare = not parts.path.strip("/") and not parts.query and not parts.fragment
        good = parts.scheme in schemes and parts.hostname and bare and parts.port != 0
    except ValueError:  # a port that is no port
        good = False
    if not good:
        raise UsageError(f"{option} {url!r}: write it as {schemes[1]}://HOST or {schemes[1]}://HOST:PORT")


def _first_line(group: BaseExceptionGroup[Exception]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error).splitlines()[0]


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where webhooks are kept: those that wait, and those of the past."""

    queue: Queue
    history: SqlHistory
    blobs: SqlBlobs


class _Body:
    """What runs inside the daemon."""

    def __init__(self, options: ServerOptions, daemon: Daemon, companion: Companion) -> None:
        self._options = options
        self._daemon = daemon
        self._companion = companion
        self._relay_drain = Drain(_AFTERWARDS)
        self._cluster_key = SecretStr(secrets.token_urlsafe(32))
        self._data_dir = options.data_dir or Path(platformdirs.user_data_dir("whook", appauthor=False))

    async def run(self) -> None:
        """Open what the services stand on, then run them."""
        async with AsyncExitStack() as stack:
            backplane = await stack.enter_async_context(open_backplane(MEMORY))
            self._make_data_dir()
            conductor_db = await stack.enter_async_context(
                open_database(sqlite_url(self._data_dir / "conductor.sqlite3"), CONDUCTOR)
            )
            auth_db = await stack.enter_async_context(
                open_database(sqlite_url(self._data_dir / "auth.sqlite3"), AUTH)
            )
            sealer = BackplaneSettings.load().sealer()
            queue = await stack.enter_async_context(
                open_sqlite_queue(
                    sqlite_url(self._data_dir / "queue.sqlite3"), backplane.bus, sealer=sealer, inherit=True
                )
            )
            store = SqlAuthStore(auth_db)
            auth = await stack.enter_async_context(open_auth(store, backplane.bus))
            verifier = Verifier(await auth.jwks())
            projects = SqlProjects(conductor_db, backplane.bus)
            stored = _Stored(queue, SqlHistory(conductor_db, sealer), SqlBlobs(conductor_db, sealer))
            async with trio.open_nursery() as services:
                services.start_soon(_follow_keys, verifier, auth, self._relay_drain, name="keys")
                login: AuthPorts = await services.start(self._run_auth, backplane, store, auth)
                await services.start(self._run_relay, backplane, verifier)
                ports = await services.start(self._run_conductor, backplane, projects, stored, auth, login)
                server = Server(
                    api_url=f"http://{ports.api_address}",
                    auth_url=login.public_url,
                    public_url=ports.public_url,
                    admin_token=auth.bootstrap_token,
                    data_dir=self._data_dir,
                    admin_address=self._daemon.admin_address,
                    local_token=auth.mint_local_token,
                    client_token=partial(auth.mint_local_token, CLIENT_SCOPES),
                    stopping=self._daemon.drain,
                    drain=self._relay_drain,
                )
                self._daemon.started(f"webhooks at {ports.public_url('<project>')}")
                await self._companion(server)
                self._daemon.drain.begin("the tunnel has ended")

    def _make_data_dir(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Exit(
                ExitCode.SERVER,
                f"cannot make the data directory {self._data_dir}: {reason}",
                hint="--data-dir",
            ) from error

    async def _run_auth(
        self,
        backplane: Backplane,
        store: SqlAuthStore,
        auth: AuthService,
        *,
        task_status: trio.TaskStatus[AuthPorts] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await run_auth(
            _auth_settings(
                self._options, _conductor_settings(self._options, self._cluster_key).trusted_proxies
            ),
            auth=auth,
            store=store,
            bus=backplane.bus,
            drain=self._daemon.drain,
            task_status=task_status,
        )

    async def _run_relay(
        self,
        backplane: Backplane,
        verifier: Verifier,
        *,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await run_relay(
            _relay_settings(self._options, self._cluster_key),
            directory=backplane.directory,
            bus=backplane.bus,
            verifier=verifier,
            drain=self._relay_drain,
            readiness=self._daemon.readiness,
            tracer=self._daemon.tracer,
            task_status=task_status,
        )

    async def _run_conductor(
        self,
        backplane: Backplane,
        projects: SqlProjects,
        stored: _Stored,
        auth: AuthService,
        login: AuthPorts,
        *,
        task_status: trio.TaskStatus[ConductorPorts] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await run_conductor(
            _conductor_settings(self._options, self._cluster_key, login.public_url),
            directory=backplane.directory,
            bus=backplane.bus,
            projects=projects,
            auth=auth,
            queue=stored.queue,
            history=stored.history,
            blobs=stored.blobs,
            journal=MemoryJournal(),
            drain=self._daemon.drain,
            readiness=self._daemon.readiness,
            tracer=self._daemon.tracer,
            task_status=task_status,
        )
        self._relay_drain.begin(self._daemon.drain.reason)


async def _follow_keys(verifier: Verifier, auth: AuthService, drain: Drain) -> None:
    """Let the relay trust the keys that auth publishes, for as long as there are tunnels."""
    while not drain.begun:
        with trio.move_on_after(KEYS_REFRESH):
            await drain.wait()
        try:
            verifier.update(await auth.jwks())
        except Unavailable as error:
            _log.warning("the signing keys cannot be read", error=str(error))


def _auth_settings(options: ServerOptions, trusted_proxies: Sequence[Network]) -> AuthSettings:
    """Return auth's settings; the proxy in front of the conductor stands in front of auth as well."""
    public_url = options.auth_url
    if public_url is None and options.listen in _WILDCARDS:
        public_url = f"http://{options.domain}:{options.auth_port}"
    # Not `load`: the flags' own variables, WHOOK_AUTH_PORT and WHOOK_AUTH_URL, are no settings of the daemon.
    try:
        return AuthSettings.model_validate(
            {
                "listen": format_address(options.listen, options.auth_port),
                "public_url": public_url,
                "trusted_proxies": trusted_proxies,
            }
        )
    except ValidationError as error:
        raise SettingsError([f"--auth-url: {fault['msg']}" for fault in error.errors()]) from None


def _conductor_settings(
    options: ServerOptions, cluster_key: SecretStr, auth_url: str | None = None
) -> ConductorSettings:
    flags: dict[str, object] = {
        "listen": format_address(options.listen, options.port),
        "api": format_address(options.listen, options.api_port),
        "base_domain": options.domain,
        "path_prefix": "/" if options.path_routing else None,
        "request_deadline": options.deadline,
        "max_head": options.max_head,
        "max_body": options.max_body,
        "header_timeout": options.header_timeout,
        "idle_timeout": options.idle_timeout,
        "max_connections_per_address": options.connections_per_address,
        "cluster_key": cluster_key,
        "auth_url": auth_url,
    }
    if options.public_url:
        parts = urlsplit(options.public_url)
        flags["public_scheme"] = parts.scheme
        flags["base_domain"] = parts.hostname or ""
        flags["public_port"] = parts.port or (443 if parts.scheme == "https" else 80)
    return ConductorSettings.load(flags, options=_OPTIONS)


def _relay_settings(options: ServerOptions, cluster_key: SecretStr) -> RelaySettings:
    tunnel_url = options.tunnel_url
    if tunnel_url is None and options.listen in _WILDCARDS:
        tunnel_url = f"ws://{options.domain}:{options.tunnel_port}"
    return RelaySettings.load(
        {
            "relay_id": _RELAY,
            "listen": format_address(options.listen, options.tunnel_port),
            "trunk_listen": _TRUNKS,
            "tunnel_url": tunnel_url,
            "cluster_key": cluster_key,
        }
    )
