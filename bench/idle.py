"""Scenario `idle`: resident memory of the server for each open tunnel on which nothing happens.

The server is the all-in-one, so the figure is an upper bound for the relay's share: it includes what a
conductor keeps for a project. The first tunnels warm it up and are not counted.
"""

from __future__ import annotations

import sys

from bench.process import Child
from bench.report import markdown, save
from bench.server import whook_serve

WARM_UP = 100


def run(tunnels: int) -> str:
    """Open tunnels and give the table."""
    with whook_serve() as server:
        command = ("-m", "bench.far_end", "hold", server.api, "--batches", f"{WARM_UP},{tunnels}")
        with Child(*command, name="far end", env={"WHOOK_TOKEN": server.token}) as clients:
            clients.message()
            clients.tell()
            clients.message()
            before = server.child.resident()
            sys.stderr.write(f"{WARM_UP} tunnels to warm up: {before / 1024:,.0f} KiB\n")
            clients.tell()
            clients.message(600)
            after = server.child.resident()
    each = (after - before) / tunnels / 1024
    result: dict[str, object] = {"tunnels": tunnels, "kib_each": each, "resident_kib": after / 1024}
    table = markdown(("tunnels", "KiB each", "KiB in all"), [(tunnels, each, after / 1024)])
    return f"{table}\n\n{save('idle', [result], table)}"
