"""The cheapest far end of a tunnel: a raw socket, WebSocket frames by hand (RFC 6455), whook.wire.

Used by the far end that answers webhooks, the one that holds idle tunnels, and the clients of a storm. It
does what a tunnel must and nothing more, so that it takes little CPU away from what is measured; its mask is
zero, which the server unmasks at the same cost as any other.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import struct
from urllib.parse import urlsplit

from whook.chassis.tunnel_token import SigningKey, TunnelClaims, sign
from whook.wire import (
    ACK,
    GOAWAY,
    HELLO,
    PING,
    PONG_FRAME,
    PROTOCOL_VERSION,
    SUBPROTOCOL,
    DataReceived,
    Endpoint,
    Frame,
    FrameReader,
    GoAway,
    Hello,
    Mode,
    Opened,
    Response,
    Role,
    Stream,
    WasReset,
    decode_goaway,
    encode_hello,
)

BINARY, CLOSE, WS_PING, WS_PONG = 0x2, 0x8, 0x9, 0xA
ANSWER = Response(200, b"OK", [(b"Content-Type", b"application/json"), (b"Content-Length", b"2")])


class Grants:
    """The server's API, on one kept-alive connection."""

    def __init__(self, api: str, token: str) -> None:
        parts = urlsplit(api)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, project: str, instance: str) -> dict[str, str]:
        """Ask for a tunnel; give the API's answer."""
        body = json.dumps({"project": project, "instance": instance})
        self._connection.request("POST", "/v1/tunnels", body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise ConnectionError(f"POST /v1/tunnels: {answer.status} {data!r}")
        grant: dict[str, str] = json.loads(data)
        return grant


class OwnGrants:
    """Tunnel tokens signed here, with the key of the cluster, or of a relay without auth and conductor."""

    def __init__(self, url: str, pem: str, relay_id: str = "relay-1") -> None:
        self._url = url
        self._key = SigningKey.from_pem(pem.encode())
        self._relay_id = relay_id

    def ask(self, project: str, instance: str) -> dict[str, str]:
        """Sign a tunnel token; give what the API would have answered."""
        claims = TunnelClaims.issue(
            user_id="usr_bench",
            project_id=f"prj_{project}",
            project=project,
            relay_id=self._relay_id,
            token_id=f"tok_{instance}",
            lifetime=3600,
        )
        return {"websocket_url": self._url, "token": sign(self._key, claims)}


class Talk:
    """What a far end says and hears on one tunnel, sans-IO: WebSocket frames, introduction, answers."""

    __slots__ = ("_buffer", "_endpoint", "_reader", "answered", "goaway", "greeted", "over")

    def __init__(self) -> None:
        self.answered = 0
        """Webhooks answered on this tunnel."""
        self.greeted = False
        self.goaway: GoAway | None = None
        self.over = ""
        """Why the relay has closed the tunnel; empty if it has not."""
        self._buffer = bytearray()
        self._reader = FrameReader()
        self._endpoint: Endpoint | None = None

    def receive(self, data: bytes) -> bytes:
        """Take what has come in; give what that makes due, as it goes onto the socket."""
        self._buffer += data
        out: list[bytes] = []
        replies: list[bytes] = []
        for opcode, payload in self._messages():
            if opcode == WS_PING:
                replies.append(message(WS_PONG, payload))
            elif opcode == CLOSE:
                self.over = self.over or f"the relay closed the tunnel: {payload!r}"
                replies.append(message(CLOSE, payload[:2]))
            elif opcode != WS_PONG:
                self._take(self._reader.feed(payload), out)
        if answer := b"".join(out):
            replies.append(message(BINARY, answer))
        return b"".join(replies)

    def _take(self, frames: list[Frame], out: list[bytes]) -> None:
        streams: list[Frame] = []
        for frame in frames:
            if frame[0] == PING:
                if not frame[1] & ACK:
                    out.append(PONG_FRAME)
            elif frame[0] == HELLO:
                self.greeted = True
            elif frame[0] == GOAWAY:
                self.goaway = decode_goaway(frame[3])
            else:
                streams.append(frame)
        if not streams:
            return
        # Most of ten thousand tunnels never get a webhook.
        endpoint = self._endpoint = self._endpoint or Endpoint(Role.ANSWERER)
        for event in endpoint.receive(streams):
            if isinstance(event, Opened):
                self.opened(event)
                if event.ended:
                    self._answer(endpoint, event.stream, out)
            elif isinstance(event, DataReceived):
                out.append(endpoint.consume(event.stream, len(event.data)))
                if event.ended:
                    self._answer(endpoint, event.stream, out)
            elif not isinstance(event, WasReset):
                raise ConnectionError(f"unexpected {type(event).__name__}")
        out.append(endpoint.take_replies())

    def opened(self, event: Opened) -> None:
        """Take note of a webhook, for whoever wants to know more than how many there were."""

    def _answer(self, endpoint: Endpoint, stream: Stream, out: list[bytes]) -> None:
        self.answered += 1
        out.append(endpoint.send_head(stream, ANSWER))
        out.append(endpoint.send_data(stream, b"{}", end=True))

    def _messages(self) -> list[tuple[int, bytes]]:
        """Cut whole WebSocket frames off the buffer; fragments count as messages, the wire does not mind."""
        found: list[tuple[int, bytes]] = []
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                start = at + 4
                size = int.from_bytes(buffer[at + 2 : start], "big")
            elif size == 127:
                start = at + 10
                size = int.from_bytes(buffer[at + 2 : start], "big")
            if len(buffer) < start + size:
                break
            found.append((buffer[at] & 0x0F, bytes(buffer[start : start + size])))
            at = start + size
        del buffer[:at]
        return found


def source_of(number: int) -> str:
    """Give the loopback address of a client: many, as they are over the Internet (127.0.0.0/8, RFC 1122)."""
    group, rest = divmod(number, 50_000)
    return f"127.{group}.{1 + rest // 200}.{1 + rest % 200}"


def message(opcode: int, payload: bytes) -> bytes:
    """Give one WebSocket message of a client (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB4x", 0x80 | opcode, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH4x", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ4x", 0x80 | opcode, 0xFF, size)
    return head + payload


def upgrade(host: str, path: str, token: str) -> bytes:
    """Give the opening handshake of a tunnel (RFC 6455 section 4.1)."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


def introduction(instance: str, mode: Mode = "takeover") -> bytes:
    """Give the far end's HELLO as a WebSocket message."""
    hello = Hello(version=PROTOCOL_VERSION, agent="whook-bench", peer="cli", instance=instance)
    hello.holder, hello.max_exchanges, hello.mode = "bench", 10_000, mode
    return message(BINARY, encode_hello(hello))


class Tunnel:
    """One tunnel: introduced, and answering every webhook with 200 and two bytes."""

    def __init__(
        self, grant: dict[str, str], instance: str, source: str = "127.0.0.1", talk: Talk | None = None
    ) -> None:
        parts = urlsplit(grant["websocket_url"])
        self.sock = socket.create_connection((parts.hostname or "", parts.port or 80), 30, (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._talk = talk or Talk()
        self.sock.sendall(upgrade(parts.netloc, parts.path or "/", grant["token"]))
        rest = self._finish_handshake()
        self.sock.sendall(introduction(instance))
        self._receive(rest)
        while not self._talk.greeted:
            self.turn()

    def _finish_handshake(self) -> bytes:
        answer = bytearray()
        while b"\r\n\r\n" not in answer:
            if not (data := self.sock.recv(65_536)):
                raise ConnectionError(f"closed during the handshake: {bytes(answer)!r}")
            answer += data
        head, _, rest = bytes(answer).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"refused: {head!r} {rest!r}")
        return rest

    def turn(self) -> None:
        """Take what has come in and send what that makes due, in one message."""
        data = self.sock.recv(262_144)
        if not data:
            raise ConnectionError("the relay closed the tunnel")
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        if answer := self._talk.receive(data):
            self.sock.sendall(answer)
        if self._talk.over or self._talk.goaway:
            raise ConnectionError(self._talk.over or f"{self._talk.goaway}")
