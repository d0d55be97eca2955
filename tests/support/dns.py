"""Name servers from Debian on a loopback port, and the smallest client that can ask them (RFC 1035)."""

from __future__ import annotations

import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from tests.support.deadlines import DEADLINE

A, AAAA = 1, 28
NOT_FOUND = 3
_EACH = 0.2
"""Seconds until a question is asked again: a server that is starting says nothing."""


class Answer(NamedTuple):
    """What a name server said."""

    code: int
    authoritative: bool
    addresses: list[str]


def find(program: str) -> str | None:
    """Return the path of a server's program, if it is installed."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Give a port that is free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def ask(port: int, name: str, kind: int = A) -> Answer:
    """Ask for the addresses of a name; ask again until there is an answer."""
    number = secrets.randbelow(65_536)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!2H", kind, 1)
    ends = time.monotonic() + DEADLINE
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(_EACH)
        while time.monotonic() < ends:
            try:
                sock.send(question)
                reply = sock.recv(4096)
            except ConnectionRefusedError:
                time.sleep(0.01)  # nobody listens yet
                continue
            except TimeoutError:
                continue
            if reply[:2] == question[:2]:
                return _read(reply, len(question))
    raise AssertionError(f"no answer about {name}")


def _read(reply: bytes, at: int) -> Answer:
    _, flags, _, count, _, _ = struct.unpack_from("!6H", reply)
    addresses = []
    for _ in range(count):
        while (size := reply[at]) and size < 0xC0:
            at += size + 1
        at += 2 if reply[at] else 1
        kind, _, _, length = struct.unpack_from("!HHIH", reply, at)
        at += 10
        if kind in {A, AAAA}:
            addresses.append(str(ip_address(reply[at : at + length])))
        at += length
    return Answer(flags & 0xF, bool(flags & 0x0400), addresses)


@contextmanager
def running(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a name server until the block ends; what it said comes with a failure."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
    except BaseException as error:
        process.terminate()
        assert process.stdout is not None
        error.add_note(process.stdout.read().decode("utf-8", "replace"))
        raise
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
        if process.stdout is not None:
            process.stdout.close()
