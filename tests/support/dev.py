"""A running `whook dev`, `whook serve` or `whook connect` on free ports, and where to reach it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.deadlines import DEADLINE
from tests.support.whook_process import WhookProcess

PORT_OPTIONS = ("--port", "--api-port", "--tunnel-port", "--admin-port", "--auth-port")
START = 2 * DEADLINE
"""A start may take longer than anything else: a cold interpreter, a new database."""


@dataclass(frozen=True, slots=True)
class Running:
    """A tunnel that is ready: `whook dev`, or `whook connect` beside a server."""

    process: WhookProcess
    port: int
    """Port of the ingress."""
    host: bytes
    """Host header that leads to the project."""
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """A running `whook serve`."""

    process: WhookProcess
    port: int
    """Port of the ingress."""
    api: str
    token: str
    auth: str
    """URL of the auth service."""


def free_ports() -> tuple[int, ...]:
    """Give ports for the five listeners, for a server that must come back on the same ones."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORT_OPTIONS]
        return tuple(s.getsockname()[1] for s in sockets)


def _port_options(ports: tuple[int, ...] | None) -> list[str]:
    values = ports or (0,) * len(PORT_OPTIONS)
    return [word for name, value in zip(PORT_OPTIONS, values, strict=True) for word in (name, str(value))]


def _running(process: WhookProcess, public_url: str) -> Running:
    parts = urlsplit(public_url)
    assert parts.port is not None
    return Running(process, parts.port, parts.netloc.encode(), public_url)


@contextmanager
def whook_dev(home: Path, *options: str, forward: str | None = None) -> Iterator[Running]:
    """Run `whook dev` until the block ends; given once its tunnel is ready."""
    target = ("--forward", forward) if forward else ()
    command = ("dev", "--json", *_port_options(None), "--data-dir", str(home / "data"), *target, *options)
    with WhookProcess(*command, home=home) as process:
        yield _running(process, process.wait_event("ready", seconds=START)["public_url"])


@contextmanager
def whook_serve(
    home: Path,
    *options: str,
    ports: tuple[int, ...] | None = None,
    token: str | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[Served]:
    """Run `whook serve` until the block ends; `token` is known from an earlier run on the same data."""
    command = ("serve", *_port_options(ports), "--data-dir", str(home / "data"), *options)
    with WhookProcess(*command, home=home, env=env or {}) as process:
        webhooks = urlsplit(process.wait_line("webhooks", seconds=START))
        assert webhooks.port is not None
        api = process.wait_line("API")
        if token is None:
            token = process.wait_line("admin token").split()[0]
        yield Served(process, webhooks.port, api, token, process.wait_line("login"))


@contextmanager
def whook_connect(
    server: Served, project: str, *options: str, forward: str | None = None, wait: bool = True
) -> Iterator[Running]:
    """Run `whook connect` until the block ends; with `wait`, given once its tunnel is ready."""
    target = ("--forward", forward) if forward else ()
    command = ("connect", project, "--json", "--server", server.api, *target, *options)
    home = server.process.home / f"client-{project}"
    with WhookProcess(*command, home=home, env={"WHOOK_TOKEN": server.token}) as process:
        if wait:
            yield _running(process, process.wait_event("ready", seconds=START)["public_url"])
        else:
            yield Running(process, server.port, f"{project}.localhost:{server.port}".encode())
