"""Scenario `stream`: one exchange carries a gigabyte, up or down; throughput, and memory all the while.

A cluster of one conductor and one relay (or the all-in-one server), the real CLI, and a local server that
reads or writes as fast as it is let (`bench.stream_server`); the sender is a plain socket in this process.
Each direction is an exchange of its own, in turns, for some rounds. The bytes are counted at both ends.
Memory that still grows in the second half of a transfer by more than `ALLOWED` fails the run: nothing on the
way may hold what it has passed on.
"""

from __future__ import annotations

import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.figures import Figure, Series, Where
from bench.process import BenchError, Child, cpu_of
from bench.report import markdown, save
from bench.sampling import MIB, Sampler
from bench.server import whook_serve
from tests.support.cluster import running_cluster

PROJECT = "bench"
ALLOWED = 16.0
"""MiB that a process may grow in the second half of a transfer: what allocators and collectors do."""
PATIENCE = 120.0
"""Seconds without progress after which the transfer is given up."""
START = 15.0
"""Seconds in which the tunnel must be known."""
BLOCK = 262_144


@dataclass(frozen=True, slots=True)
class Route:
    """What runs: where to send, and the processes by name."""

    port: int
    pids: dict[str, int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """One gigabyte: how fast, what it cost by process in µs for a MiB, and the memory of each."""

    direction: str
    seconds: float
    mib_per_second: float
    cpu_us: dict[str, float]
    grown: dict[str, float]
    """MiB over what the process had before, at the most."""
    late: dict[str, float]
    """MiB of growth in the second half."""
    series: list[Series]


def upload(port: int, size: int) -> None:
    """Post so many bytes. Raises BenchError unless the local server has counted as many."""
    block = memoryview(bytes(BLOCK))
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        head = f"POST /up HTTP/1.1\r\nHost: {PROJECT}.localhost:{port}\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode())
        left = size
        while left:
            left -= sock.send(block[: min(left, BLOCK)])
        answer = _head(sock)
        if f"\r\nx-received: {size}\r\n".encode() not in answer.lower():
            raise BenchError(f"unexpected answer {answer[:400]!r}")


def download(port: int, size: int) -> None:
    """Get so many bytes. Raises BenchError when there were more or fewer."""
    buffer = bytearray(BLOCK)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        request = (
            f"GET /down/{size} HTTP/1.1\r\nHost: {PROJECT}.localhost:{port}\r\nConnection: close\r\n\r\n"
        )
        sock.sendall(request.encode())
        head, _, rest = _head(sock).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise BenchError(f"unexpected answer {head[:400]!r}")
        count = len(rest)
        while got := sock.recv_into(buffer):
            count += got
        if count != size:
            raise BenchError(f"{count:,} bytes came of {size:,}")


def _head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            raise BenchError(f"the connection was closed after {data[:400]!r}")
        data += piece
    return data


DIRECTIONS: dict[str, Callable[[int, int], None]] = {"up": upload, "down": download}


def running_path(stack: ExitStack, size: int, shape: str) -> Route:
    """Run the servers, the CLI and the local server until the stack is closed."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="whook-bench-")))
    settings = {"WHOOK_CONDUCTOR_MAX_BODY": str(max(size, 104_857_600))}
    if shape == "embedded":
        server = stack.enter_context(whook_serve(env=settings))
        port, api, token, pids = server.ingress, server.api, server.token, {"server": server.child.pid}
    else:
        cluster = stack.enter_context(
            running_cluster(folder, conductors=1, relays=1, settings=settings, balanced=False)
        )
        port, api, token = cluster.ingress[0], cluster.api(), cluster.token
        members = {"conductor": cluster.conductors[0], "relay": cluster.relays[0]}
        pids = {name: member.process.pid for name, member in members.items() if member.process}
    local = stack.enter_context(Child("-m", "bench.stream_server", name="local server"))
    target = f"http://127.0.0.1:{local.message()['port']}"
    command = (
        "-m",
        "whook_cli",
        "connect",
        PROJECT,
        "--server",
        api,
        "--forward",
        target,
        "--json",
    )
    env = {"WHOOK_TOKEN": token, "HOME": str(folder)}
    cli = stack.enter_context(Child(*command, name="whook connect", env=env))
    while cli.message()["event"] != "ready":
        pass
    cli.drain()
    return Route(port, {**pids, "cli": cli.pid})


def wait_route(port: int) -> None:
    """Wait until the conductor has heard of the tunnel: the client may know of it earlier."""
    ends = time.monotonic() + START
    while True:
        try:
            download(port, 1)
        except BenchError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return


def transfer(path: Route, direction: str, size: int) -> Transfer:
    """Carry so many bytes through one exchange."""
    before = {name: cpu_of(pid) for name, pid in path.pids.items()}
    with Sampler(path.pids) as memory:
        began = time.monotonic()
        DIRECTIONS[direction](path.port, size)
        seconds = time.monotonic() - began
    mib = size / MIB
    return Transfer(
        direction,
        seconds,
        mib / seconds,
        {name: (cpu_of(pid) - before[name]) / mib * 1e6 for name, pid in path.pids.items()},
        {name: memory.most(name) - memory.first(name) for name in path.pids},
        {name: memory.growth_after(name, 0.5) for name in path.pids},
        memory.series(direction=direction),
    )


def run(size: int, rounds: int, shape: str = "clustered") -> list[Transfer]:
    """Measure both directions in turns. Raises BenchError when memory keeps growing."""
    found: list[Transfer] = []
    with ExitStack() as stack:
        path = running_path(stack, size, shape)
        wait_route(path.port)
        for direction in DIRECTIONS:
            transfer(path, direction, min(size, 16 * MIB))  # once for code and buffers
        for turn in range(rounds):
            for direction in DIRECTIONS:
                one = transfer(path, direction, size)
                found.append(one)
                sys.stderr.write(
                    f"{turn + 1}/{rounds} {direction:4}: {one.mib_per_second:6,.0f} MiB/s, "
                    f"grown {', '.join(f'{name} {mib:.1f} MiB' for name, mib in one.grown.items())}\n"
                )
                worst = max(one.late, key=lambda name: one.late[name])
                if one.late[worst] > ALLOWED:
                    raise BenchError(f"{worst} grew by {one.late[worst]:.1f} MiB in the second half")
    return found


def report(size: int, found: list[Transfer]) -> str:
    """Save the results; give the table."""
    figures: list[Figure] = []
    rows: list[tuple[object, ...]] = []
    for direction in DIRECTIONS:
        own = [one for one in found if one.direction == direction]
        where: Where = {"direction": direction, "bytes": size}
        speed = Figure("throughput", "MiB/s", where, [one.mib_per_second for one in own], "higher")
        figures.append(speed)
        row: list[object] = [direction, size // MIB, speed.median]
        for name in own[0].cpu_us:
            of: Where = {**where, "process": name}
            cpu = Figure("CPU per MiB", "µs", of, [one.cpu_us[name] for one in own])
            grown = Figure("memory grown", "MiB", of, [one.grown[name] for one in own])
            figures += (cpu, grown)
            row += (cpu.median, grown.median)
        rows.append(tuple(row))
    names = list(found[0].cpu_us)
    headings = ["direction", "MiB", "MiB/s"]
    for name in names:
        headings += (f"{name} µs/MiB", f"{name} +MiB")
    table = markdown(headings, rows)
    last = {one.direction: one.series for one in found}
    results: list[dict[str, Any]] = [
        {"direction": one.direction, "seconds": one.seconds, "grown": one.grown, "late": one.late}
        for one in found
    ]
    path = save("stream", results, table, figures=figures, series=[s for each in last.values() for s in each])
    return f"{table}\n\n{path}"


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--mib", type=int, default=1024, help="size of each transfer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=("clustered", "embedded"), default="clustered")


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    size = args.mib * MIB
    return report(size, run(size, args.rounds, args.shape))
