"""The Caddyfile of docs/operate/install.md with the real Caddy: what clients and senders want passes it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE
from tests.support.dev import free_ports, whook_connect, whook_serve
from tests.support.guides import blocks
from tests.support.origin import Origin, ok

GUIDE = Path(__file__).parents[2] / "docs" / "operate" / "install.md"
NAMES = ("hooks.example.com", "api.hooks.example.com", "tunnel.hooks.example.com", "auth.hooks.example.com")
"""What Caddy serves: for webhooks, API, tunnels and logins."""
PORTS = (8080, 8081, 8082, 8084)


@contextmanager
def caddy(configuration: str, port: int, folder: Path) -> Iterator[None]:
    """Run Caddy until the block ends; given once it listens."""
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("caddy is not installed")
    file = folder / "Caddyfile"
    file.write_text(configuration, "utf-8")
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--config", str(file), "--adapter", "caddyfile"],
            stdout=log,
            stderr=log,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
    try:
        ends = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), DEADLINE).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "caddy.log").read_text()
                assert time.monotonic() < ends
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.mark.slow_deploy
def test_all_four_names_lead_through(tmp_path: Path) -> None:
    [text] = [block.text for block in blocks(GUIDE) if block.mark == "file: Caddyfile"]
    web, api, tunnel, _, login = free_ports()
    ports = free_ports()
    for name, port in zip(NAMES, (web, api, tunnel, login), strict=True):
        text, count = re.subn(rf"^{re.escape(name)} ", f"http://127.0.0.1:{port} ", text, flags=re.MULTILINE)
        assert count == 1
    for documented, port in zip(PORTS, (*ports[:3], ports[4]), strict=True):
        text, count = re.subn(rf"proxy 127.0.0.1:{documented}\b", f"proxy 127.0.0.1:{port}", text)
        assert count == 1
    options = ("--path-routing", "--public-url", f"http://127.0.0.1:{web}", "--connections-per-address", "0")
    more = ("--tunnel-url", f"ws://127.0.0.1:{tunnel}", "--auth-url", f"http://127.0.0.1:{login}")
    with (
        caddy("{\n\tadmin off\n\tauto_https off\n}\n" + text, web, tmp_path),
        Origin(ok) as origin,
        whook_serve(tmp_path, *options, *more, ports=ports) as server,
    ):
        server = replace(server, port=web, api=f"http://127.0.0.1:{api}")
        with whook_connect(server, "shop", forward=origin.url) as client:
            assert client.public_url == f"http://127.0.0.1:{web}/shop"
            url = f"{client.public_url}/a%2Fb/first?x=1"
            with urllib.request.urlopen(url, b"hello", timeout=DEADLINE) as answer:
                assert answer.status == 200
            [received] = origin.received
            assert (received.target, received.body) == (b"/a%2Fb/first?x=1", b"hello")
        jwks = f"http://127.0.0.1:{login}/.well-known/jwks.json"
        with urllib.request.urlopen(jwks, timeout=DEADLINE) as answer:
            assert b"keys" in answer.read()
