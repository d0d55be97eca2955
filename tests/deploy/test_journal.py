"""systemd's own way to a central place: what a daemon logs, uploaded as systemd-journal-upload does it.

There is no journald where the tests run, so the entries are put into the journal's export format here; the
collector, systemd-journal-remote, and the reader, journalctl, are the real programs.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import free_ports
from tests.support.deadlines import DEADLINE
from tests.support.dev import whook_serve
from tests.support.polling import wait_until
from tests.support.rawhttp import Peer

REMOTE = shutil.which("systemd-journal-remote", path="/lib/systemd:/usr/lib/systemd")
BOOT, MACHINE = "01" * 16, "23" * 16


def entry(line: str, number: int) -> bytes:
    """Give one entry as journald exports it (systemd.io, "Journal Export Formats")."""
    found = re.fullmatch(r"(?:<(\d)>)?(.*)", line)
    assert found is not None
    fields = {
        "__REALTIME_TIMESTAMP": str(time.time_ns() // 1_000 + number),
        "__MONOTONIC_TIMESTAMP": str(1_000_000 + number),
        "_BOOT_ID": BOOT,
        "_MACHINE_ID": MACHINE,
        "_HOSTNAME": "machine-1",
        "_SYSTEMD_UNIT": "whook.service",
        "PRIORITY": found[1] or "6",
        "MESSAGE": found[2],
    }
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode() + b"\n"


@contextmanager
def running_remote(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run systemd-journal-remote; give its port and its journal."""
    assert REMOTE is not None
    (port,) = free_ports(1)
    journal = folder / "remote.journal"
    command = [REMOTE, f"--listen-http=127.0.0.1:{port}", f"--output={journal}", "--split-mode=none"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: listens(port), "systemd-journal-remote to listen")
            yield port, journal
        finally:
            process.terminate()
            process.wait(DEADLINE)


def listens(port: int) -> bool:
    try:
        Peer.connect(port).close()
    except OSError:
        return False
    return True


def upload(port: int, entries: list[bytes]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        headers = {"Content-Type": "application/vnd.fdo.journal", "Transfer-Encoding": "chunked"}
        connection.request("POST", "/upload", iter(entries), headers, encode_chunked=True)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow_deploy
@pytest.mark.skipif(REMOTE is None, reason="systemd-journal-remote is not installed")
def test_the_lines_of_a_daemon_can_be_searched_in_the_central_journal(tmp_path: Path) -> None:
    with whook_serve(tmp_path / "whook", "--log-format", "json") as server:
        with Peer.connect(server.port) as peer:
            peer.send(b"POST / HTTP/1.1\r\nHost: nobody.localhost\r\nContent-Length: 0\r\n\r\n")
            event_id = json.loads(peer.read_response(b"POST").body)["event_id"]
        server.process.wait_log(event_id)
        entries = [entry(line, number) for number, line in enumerate(server.process.errors)]
    with running_remote(tmp_path) as (port, journal):
        assert upload(port, entries) == 202
    done = subprocess.run(
        ["journalctl", f"--file={journal}", "-o", "json", "-u", "whook.service"],
        capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(entries)
    (line,) = [json.loads(one["MESSAGE"]) for one in found if event_id in one["MESSAGE"]]
    assert (line["event"], line["event_id"]) == ("webhook refused", event_id)
    assert {one["_HOSTNAME"] for one in found} == {"machine-1"}
