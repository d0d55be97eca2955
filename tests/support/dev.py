"""A running `whook dev`, `whook serve` or `whook connect` on free ports, and where to reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.deadlines import DEADLINE
from tests.support.whook_process import WhookProcess

FREE_PORTS = ("--port", "0", "--api-port", "0", "--tunnel-port", "0", "--admin-port", "0")
PROJECT = "demo"


@dataclass(frozen=True, slots=True)
class Running:
    """One server with at least its ingress known."""

    process: WhookProcess
    port: int
    """Port of the ingress."""
    host: bytes
    """Host header that leads to the project."""


def running(process: WhookProcess, public_url: str) -> Running:
    """Take the ingress's port and the Host header from a project's public URL."""
    parts = urlsplit(public_url)
    assert parts.port is not None
    return Running(process, parts.port, parts.netloc.encode())


@contextmanager
def whook_dev(home: Path, *args: str, forward: str | None = None) -> Iterator[Running]:
    """Run `whook dev` until the block ends; given once its tunnel is ready."""
    target = ("--forward", forward) if forward else ()
    command = ("dev", "--json", *FREE_PORTS, "--data-dir", str(home / "data"), *target, *args)
    with WhookProcess(*command, home=home) as process:
        ready = process.wait_event("connected", seconds=2 * DEADLINE)
        yield running(process, ready["public_url"])
