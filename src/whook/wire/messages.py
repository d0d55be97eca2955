"""Messages: what the payloads of frames mean.

Structured payloads are MessagePack (msgspec): arrays, to which fields are only ever added at the end, and a
map for HELLO. An older peer ignores what it does not know and a newer one finds defaults. The OPEN payload
starts with the route, in front of the MessagePack, so that the relay can switch a stream without decoding it.

Called by the endpoint, the relay (routes, HELLO, GOAWAY) and by whoever builds a request or response.
"""

from enum import IntEnum
from typing import Final, Literal

import msgspec

from whook.wire.errors import ProtocolError
from whook.wire.frames import (
    END,
    GOAWAY,
    HEAD,
    HEADER,
    HELLO,
    MAX_PAYLOAD,
    OPEN,
    RESET,
    encode_frame,
)

PROTOCOL_VERSION: Final = 1
SUBPROTOCOL: Final = "whook.v1"  #: the WebSocket subprotocol (RFC 6455, section 1.9) of tunnels

Headers = list[tuple[bytes, bytes]]  #: name and value as on the wire: case, order and duplicates kept
Peer = Literal["cli", "relay", "conductor"]
Mode = Literal["exclusive", "takeover", "watch"]

_MAX_ROUTE = 255
#: Characters of the explanation in a RESET or GOAWAY: it is for people, and must not break the frame's limit.
_MAX_MESSAGE = 1_000
#: Seconds that a peer may ask for, as an interval or a pause: a day.
_MAX_SECONDS = 86_400


class ResetCode(IntEnum):
    """Why one stream was given up."""

    CANCELLED = 1  #: whoever wanted the answer went away
    OVERLOADED = 2  #: too many exchanges or bytes are waiting already
    NO_TUNNEL = 3  #: the relay does not hold that tunnel (any more)
    TUNNEL_LOST = 4  #: the link to the far end died in mid-exchange
    DEADLINE = 5
    PROTOCOL = 6
    LOCAL_FAILED = 7  #: the local server broke off in the middle of its response
    TOO_LARGE = 8
    INTERNAL = 9
    DRAINING = 10  #: the far end takes no new exchanges


class GoAwayCode(IntEnum):
    """Why a link will take no new streams, or was refused."""

    DRAIN = 1  #: shutting down: open a new link elsewhere, what runs may finish
    REPLACED = 2  #: another connection took the project over
    HELD = 3  #: another client holds the project
    UNAUTHORIZED = 4
    REVOKED = 5
    VERSION = 6
    MOVED = 7  #: reconnect: the project is held by another relay now
    PROTOCOL = 8
    FULL = 9
    EXPIRED = 10  #: the token's time is over: reconnect with a new one


class Request(msgspec.Struct, array_like=True, gc=False):
    """The head of a request on its way to the local server.

    Attributes:
        event_id: identity of the webhook, stable over redeliveries.
        attempt: 1 for the first delivery, counting up.
        deadline_ms: milliseconds left until a response head must have come.
        scheme: `http` or `https`, as the sender spoke to the public edge.
        client: the sender's address.
        method: as sent.
        target: the raw request target, as sent (RFC 9112, section 3.2).
        headers: as sent, without hop-by-hop fields, plus what whook adds.
        origin: `live` while the sender waits; `buffered` or `replay` out of the queue.
        remaining: how many webhooks of the project wait behind this one in the queue.
    """

    event_id: str
    attempt: int
    deadline_ms: int
    scheme: str
    client: str
    method: bytes
    target: bytes
    headers: Headers
    origin: str = "live"
    remaining: int = 0


class Response(msgspec.Struct, array_like=True, gc=False):
    """The head of a response; a status of 1xx is informational and more follows."""

    status: int
    reason: bytes
    headers: Headers


class Hello(msgspec.Struct, omit_defaults=True):
    """The first message each way: who speaks, and how the link behaves.

    Attributes:
        version: protocol version of the speaker.
        agent: name and version of the program.
        peer: the speaker's part.
        instance: identity of one CLI process; a reconnect with the same one replaces its own ghost.
        holder: how a person would name the client, such as `ada@laptop`.
        mode: how the CLI wants the project.
        tunnel_id: given by the relay.
        heartbeat: seconds between liveness probes; given by the relay.
        max_exchanges: how many streams the speaker takes at once.
        nonce: trunk handshake: the speaker's challenge.
        proof: trunk handshake: HMAC over both challenges.
    """

    version: int
    agent: str
    peer: Peer
    instance: str = ""
    holder: str = ""
    mode: Mode = "exclusive"
    tunnel_id: str = ""
    heartbeat: float = 0.0
    max_exchanges: int = 0
    nonce: bytes = b""
    proof: bytes = b""


class Reset(msgspec.Struct, array_like=True, gc=False):
    """Payload of RESET. An unknown code of a newer peer is kept as a number."""

    code: int
    message: str = ""


class GoAway(msgspec.Struct, array_like=True, gc=False):
    """Payload of GOAWAY.

    Attributes:
        code: a `GoAwayCode`, or an unknown one of a newer peer.
        message: for people; names the cause and the mend.
        retry_after: seconds to wait before connecting again.
    """

    code: int
    message: str = ""
    retry_after: float = 0.0


#: What msgspec raises for bytes that are not the message: a text that is not UTF-8 and arrays nested too deep
#: in a field to be skipped have exceptions of their own.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(Request).decode
_decode_response = msgspec.msgpack.Decoder(Response).decode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_reset = msgspec.msgpack.Decoder(Reset).decode
_decode_goaway = msgspec.msgpack.Decoder(GoAway).decode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode


def _framed(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a head of {len(payload)} bytes does not fit a frame of {MAX_PAYLOAD}")
    return HEADER.pack(len(payload), kind, flags, stream) + payload


def encode_open(stream: int, flags: int, route: bytes, request: Request) -> bytes:
    """Return the OPEN frame.

    Raises:
        ValueError: the route is longer than 255 bytes or the head above `MAX_PAYLOAD`.
    """
    if len(route) > _MAX_ROUTE:
        raise ValueError(f"a route of {len(route)} bytes is longer than {_MAX_ROUTE}")
    return _framed(OPEN, flags, stream, b"%c%b%b" % (len(route), route, _encode(request)))


def peek_route(payload: bytes) -> bytes:
    """Return the route in front of an OPEN payload.

    Raises:
        ProtocolError: the payload ends before its route does.
    """
    end = payload[0] + 1 if payload else 1
    if end > len(payload):
        raise ProtocolError("OPEN ends inside its route")
    return payload[1:end]


def decode_open(payload: bytes) -> Request:
    """Return the request of an OPEN payload. Raises `ProtocolError` when it is none."""
    if not payload:
        raise ProtocolError("OPEN without a route")
    try:
        return _decode_request(memoryview(payload)[payload[0] + 1 :])
    except _UNREADABLE as error:
        raise ProtocolError(f"OPEN does not hold a request: {error}") from error


def encode_response(stream: int, flags: int, response: Response) -> bytes:
    """Return the HEAD frame. Raises `ValueError` when it exceeds `MAX_PAYLOAD`."""
    return _framed(HEAD, flags, stream, _encode(response))


def decode_response(payload: bytes) -> Response:
    """Return the response of a HEAD payload. Raises `ProtocolError` when it is none."""
    try:
        response = _decode_response(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"HEAD does not hold a response: {error}") from error
    if not 100 <= response.status <= 999:
        raise ProtocolError(f"HEAD with status {response.status}")
    return response


def encode_end(stream: int, trailers: Headers) -> bytes:
    """Return the END frame, its payload empty without trailers. Raises `ValueError` above `MAX_PAYLOAD`."""
    return _framed(END, 0, stream, _encode(trailers) if trailers else b"")


def decode_trailers(payload: bytes) -> Headers:
    """Return the trailers of an END payload. Raises `ProtocolError` when it holds something else."""
    if not payload:
        return []
    try:
        return _decode_headers(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"END does not hold trailers: {error}") from error


def encode_hello(hello: Hello) -> bytes:
    """Return the HELLO frame."""
    return encode_frame(HELLO, 0, 0, _encode(hello))


def decode_hello(payload: bytes) -> Hello:
    """Return the payload of HELLO. Raises `ProtocolError` when it is none."""
    try:
        hello = _decode_hello(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"HELLO cannot be read: {error}") from error
    if not 0 <= hello.heartbeat <= _MAX_SECONDS:  # also what is not a number
        raise ProtocolError(f"HELLO asks for a heartbeat of {hello.heartbeat} s")
    return hello


def encode_reset(stream: int, code: int, message: str = "") -> bytes:
    """Return the RESET frame."""
    return encode_frame(RESET, 0, stream, _encode(Reset(code, message[:_MAX_MESSAGE])))


def decode_reset(payload: bytes) -> Reset:
    """Return the payload of RESET. Raises `ProtocolError` when it is none."""
    try:
        return _decode_reset(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"RESET cannot be read: {error}") from error


def encode_goaway(code: int, message: str = "", retry_after: float = 0.0) -> bytes:
    """Return the GOAWAY frame; `retry_after` in seconds."""
    return encode_frame(GOAWAY, 0, 0, _encode(GoAway(code, message[:_MAX_MESSAGE], retry_after)))


def decode_goaway(payload: bytes) -> GoAway:
    """Return the payload of GOAWAY. Raises `ProtocolError` when it is none."""
    try:
        goaway = _decode_goaway(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"GOAWAY cannot be read: {error}") from error
    if not 0 <= goaway.retry_after <= _MAX_SECONDS:
        raise ProtocolError(f"GOAWAY asks to wait for {goaway.retry_after} s")
    return goaway
