"""A defect on purpose, in a real `whook serve`: a bit of a stored webhook turns on the disk.

Its delivery then fails inside the conductor, where errors are contained one delivery at a time: the
authenticated encryption says that what is stored was changed. Nothing of the program is replaced.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing

from tests.support.dev import Served, whook_connect
from tests.support.rawhttp import Peer
from whook.chassis.sealing import KEY_SIZE

STORAGE_KEY = secrets.token_hex(KEY_SIZE)
"""For WHOOK_BACKPLANE_STORAGE_KEY."""
LARGE = 300_000
"""Bytes of a body that is stored apart."""


def fail_a_delivery(server: Served, project: str = "torn") -> str:
    """Have a webhook stored, turn a bit of it, and connect; give the event's id once the error is logged."""
    with whook_connect(server, project) as client:
        host = client.host
    server.process.wait_log("tunnel closed", f'"{project}"')
    with Peer.connect(server.port) as peer:
        peer.send(
            b"POST /torn HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (host, LARGE), bytes(LARGE)
        )
        answer = peer.read_response(b"POST")
    assert answer.status == 202, answer
    event_id = answer.value(b"Whook-Event-Id").decode()
    path = server.process.home / "data" / "conductor.sqlite3"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        (content,) = database.execute(
            "select content from bodies where event_id = ? and part = 0", (event_id,)
        ).fetchone()
        torn = bytes([*content[:-1], content[-1] ^ 1])
        database.execute("update bodies set content = ? where event_id = ? and part = 0", (torn, event_id))
        database.commit()
    with whook_connect(server, project):
        server.process.wait_log("a delivery failed inside the conductor", event_id)
    return event_id
