"""Scenario `idle`: resident memory for each open tunnel on which nothing happens.

Measured twice: of a relay alone, and of the all-in-one server, where a conductor keeps a project and a route
for each tunnel as well. The first tunnels warm a process up and are not counted.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from bench.process import Child
from bench.report import markdown, save
from bench.server import whook_serve

WARM_UP = 200


def measure(name: str, server: Child, where: str, env: dict[str, str], tunnels: int) -> dict[str, object]:
    """Open tunnels to a server and see how much it grows."""
    command = ("-m", "bench.far_end", "hold", where, "--batches", f"{WARM_UP},{tunnels}")
    with Child(*command, name="far end", env=env) as clients:
        clients.message()
        clients.tell()
        clients.message(600)
        before = server.resident()
        clients.tell()
        clients.message(600)
        after = server.resident()
    each = (after - before) / tunnels / 1024
    sys.stderr.write(f"{name}: {each:.1f} KiB for each of {tunnels} tunnels\n")
    return {"server": name, "tunnels": tunnels, "kib_each": each, "resident_kib": after / 1024}


def run(tunnels: int) -> str:
    """Measure both servers and give the table."""
    with Child("-m", "bench.relay_alone", name="relay") as relay:
        at = relay.message()
        results = [measure("relay alone", relay, at["url"], {"WHOOK_BENCH_KEY": at["key"]}, tunnels)]
    with whook_serve() as server:
        env = {"WHOOK_TOKEN": server.token}
        results.append(measure("whook serve", server.child, server.api, env, tunnels))
    table = markdown(("server", "tunnels", "KiB each", "KiB in all"), [tuple(r.values()) for r in results])
    return f"{table}\n\n{save('idle', results, table)}"


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--tunnels", type=int, default=1000)


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    return run(args.tunnels)
