"""The fidelity suite's machinery: play a case straight to the origin and through the tunnel, compare bytes.

What may differ is written down here and nowhere else: the headers that whook adds to a request, the fields
that RFC 9110 section 7.6.1 tells an intermediary to drop, chunk boundaries, and the protocol version.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.deadlines import Gate
from tests.support.origin import Origin, Script, reply
from tests.support.rawhttp import Message, Peer

ADDED = (
    (b"Whook-Event-Id", re.compile(rb"evt_[0-9A-HJKMNP-TV-Z]{26}")),
    (b"Whook-Attempt", re.compile(rb"1")),
    (b"X-Forwarded-For", re.compile(rb"127\.0\.0\.1")),
    (b"X-Forwarded-Host", re.compile(rb"(?i:demo\.localhost:\d+)")),
    (b"X-Forwarded-Proto", re.compile(rb"http")),
    (b"Via", re.compile(rb"1\.[01] whook")),
)
"""What the tunnel adds after the sender's own headers, in this order."""

HOST = b"@HOST@"
"""Stands in a case's bytes for the project's public host and port."""


@dataclass(slots=True)
class Stage:
    """What the client and the origin of one run share."""

    host: bytes
    origin: Origin
    gates: dict[str, Gate] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    """Raw bytes noted under a name, such as what came after an upgrade; both runs must agree on all of it."""

    def __post_init__(self) -> None:
        self.gates = {name: Gate(name) for name in ("a", "b", "c")}

    def text(self, data: bytes) -> bytes:
        """Give bytes of a case with the host in its place."""
        return data.replace(HOST, self.host)


Talk = Callable[[Peer, Stage], list[Message]]


@dataclass(frozen=True, slots=True)
class Case:
    """One named conversation: what the client does, and how the origin answers."""

    name: str
    talk: Talk
    scripts: Callable[[Stage], Sequence[Script]]
    expect: Callable[[Outcome], None] | None = None
    """Further facts that must hold of either run, where equality alone could hide a mistake in the case."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that both ends saw in one run."""

    up: list[Message]
    down: list[Message]
    raw: dict[str, bytes]


def say(request: bytes) -> Talk:
    """Talk: send these bytes at once and read the responses to the one request in them."""
    method = request.split(b" ", 1)[0]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(request))
        return client.read_responses(method)

    return talk


def once(script: Script) -> Callable[[Stage], Sequence[Script]]:
    """Answer the only request of the case with this script."""
    return lambda _: (script,)


def plain(name: str, request: bytes, answer: bytes, *, close: bool = False) -> Case:
    """One request, one answer, both as bytes."""
    return Case(name, say(request), once(reply(answer, close=close)))


def noise(size: int, seed: int = 7) -> bytes:
    """Bytes without pattern, the same ones each time."""
    return random.Random(f"{seed}/{size}").randbytes(size)


def run(case: Case, port: int, host: bytes, origin: Origin) -> Outcome:
    """Play a case against a port behind which the origin stands, near or far."""
    origin.reset()
    stage = Stage(host, origin)
    origin.script(*case.scripts(stage))
    with Peer.connect(port) as client:
        down = case.talk(client, stage)
        origin.check()
    outcome = Outcome(list(origin.received), down, dict(stage.raw))
    if case.expect is not None:
        case.expect(outcome)
    return outcome


def compare(direct: Outcome, tunnelled: Outcome) -> None:
    """Fail on the first byte that the tunnel changed and had no leave to."""
    assert len(tunnelled.up) == len(direct.up)
    for near, far in zip(direct.up, tunnelled.up, strict=True):
        compare_request(near, far)
    assert [m.status for m in tunnelled.down] == [m.status for m in direct.down]
    for near, far in zip(direct.down, tunnelled.down, strict=True):
        compare_response(near, far)
    assert tunnelled.raw == direct.raw


def compare_request(direct: Message, tunnelled: Message) -> None:
    """Compare what the origin received."""
    assert versionless(tunnelled.start_line, -1) == versionless(direct.start_line, -1)
    assert tunnelled.start_line.endswith(b" HTTP/1.1")
    wanted, seen = end_to_end(direct.lines), normal(tunnelled.lines)
    assert seen[: len(wanted)] == wanted
    added = seen[len(wanted) :]
    assert [line.partition(b": ")[0] for line in added] == [name for name, _ in ADDED]
    for line, (name, pattern) in zip(added, ADDED, strict=True):
        assert pattern.fullmatch(line.partition(b": ")[2]), (name, line)
    assert tunnelled.framing == direct.framing
    same_bytes(tunnelled.body, direct.body)
    assert normal(tunnelled.trailers) == normal(direct.trailers)


def compare_response(direct: Message, tunnelled: Message) -> None:
    """Compare what the client received."""
    assert versionless(tunnelled.start_line, 0) == versionless(direct.start_line, 0)
    assert tunnelled.start_line.startswith(b"HTTP/1.1 ")
    wanted, seen = end_to_end(direct.lines), end_to_end(tunnelled.lines)
    if direct.framing == "close" and tunnelled.framing == "chunked":
        assert seen.pop() == b"Transfer-Encoding: chunked"
    else:
        assert tunnelled.framing == direct.framing
    assert seen == wanted
    same_bytes(tunnelled.body, direct.body)
    assert normal(tunnelled.trailers) == normal(direct.trailers)


def same_bytes(seen: bytes, wanted: bytes) -> None:
    """Compare bodies without printing fifty megabytes when they differ."""
    if seen != wanted:
        at = next((i for i, (a, b) in enumerate(zip(seen, wanted, strict=False)) if a != b), -1)
        context = (seen[max(0, at - 20) : at + 20], wanted[max(0, at - 20) : at + 20])
        raise AssertionError(f"{len(seen)} bytes for {len(wanted)}; first difference at {at}: {context}")


def versionless(start_line: bytes, index: int) -> list[bytes]:
    """Give a start line without its protocol version, which is each hop's own (RFC 9110 section 6.2)."""
    parts = start_line.split(b" ", 2)
    del parts[index]
    return parts


def normal(lines: Sequence[bytes]) -> list[bytes]:
    """Write header lines with the one space that optional whitespace around a value amounts to."""
    pairs = (line.partition(b":") for line in lines)
    return [name + b": " + value.strip(b" \t") for name, _, value in pairs]


def end_to_end(lines: Sequence[bytes]) -> list[bytes]:
    """Give the header lines that an intermediary forwards (RFC 9110 section 7.6.1)."""
    pairs = [tuple(line.split(b": ", 1)) for line in normal(lines)]
    named = {
        token.strip().lower()
        for name, value in pairs
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    upgrade = b"upgrade" in named and any(name.lower() == b"upgrade" for name, _ in pairs)
    kept: list[bytes] = []
    for name, value in pairs:
        low = name.lower()
        if low == b"connection":
            if upgrade and b"upgrade" in value.lower():
                kept.append(name + b": Upgrade")
        elif low == b"upgrade":
            if upgrade:
                kept.append(name + b": " + value)
        elif low == b"te":
            if value.lower() == b"trailers":
                kept.append(name + b": " + value)
        elif low not in named and low not in {b"keep-alive", b"proxy-connection"}:
            kept.append(name + b": " + value)
    return kept
