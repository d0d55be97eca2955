"""The framing of a server: what clients send, whole and in pieces, and what they may not send."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong
from wsproto.events import Event as WsEvent

from whook.link.rfc6455 import (
    BINARY,
    CLOSE,
    ClientFrames,
    Violation,
    accept_key,
    encode_close,
    encode_frame,
)

LIMIT = 1_000
KEY = b"\x01\x80\xff\x7f"


def masked(opcode: int, payload: bytes, *, fin: bool = True, key: bytes = KEY, length: bytes = b"") -> bytes:
    """Give a client's frame; `length` is how its length is written, by default the shortest way."""
    if not length:
        size = len(payload)
        if size < 126:
            length = bytes([size])
        elif size < 65_536:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
    first = (0x80 if fin else 0) | opcode
    body = bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))
    return bytes([first, length[0] | 0x80]) + length[1:] + key + body


def violation(data: bytes, *, limit: int = LIMIT) -> tuple[int, str]:
    """Feed what is wrong; give the code and the reason that are found."""
    with pytest.raises(Violation) as raised:
        ClientFrames(limit).feed(data)
    return raised.value.code, str(raised.value)


def test_the_key_of_the_specification() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # section 1.3


messages = st.lists(st.binary(max_size=300), max_size=8)
pieces = st.lists(st.integers(1, 40), min_size=1, max_size=50)


@given(messages=messages, cuts=pieces, key=st.binary(min_size=4, max_size=4), fragment=st.integers(1, 200))
def test_payload_comes_through_whatever_the_pieces(
    messages: list[bytes], cuts: list[int], key: bytes, fragment: int
) -> None:
    sent = b""
    for message in messages:
        parts = [message[at : at + fragment] for at in range(0, len(message), fragment)] or [b""]
        for n, part in enumerate(parts):
            sent += masked(BINARY if n == 0 else 0, part, fin=n == len(parts) - 1, key=key)
            sent += masked(0x9, b"still there?", key=key)  # a control frame may come between fragments
    frames, received, at, turn = ClientFrames(LIMIT), b"", 0, 0
    while at < len(sent):
        step = cuts[turn % len(cuts)]
        received += frames.feed(sent[at : at + step])
        at, turn = at + step, turn + 1
    assert received == b"".join(messages)
    assert frames.closed is None
    assert frames.reply == (encode_frame(0xA, b"still there?") if messages else b"")


@given(st.lists(st.binary(max_size=70_000), max_size=3), st.integers(1, 100_000))
def test_another_implementation_understands_and_is_understood(messages: list[bytes], step: int) -> None:
    client = Connection(ConnectionType.CLIENT)
    sent = b"".join(client.send(BytesMessage(data=message)) for message in messages)
    sent += client.send(Ping(payload=b"x")) + client.send(CloseConnection(code=1000, reason="enough"))
    frames, received = ClientFrames(100_000), b""
    for at in range(0, len(sent), step):
        received += frames.feed(sent[at : at + step])
    assert received == b"".join(messages)
    assert frames.closed == (1000, "enough")

    client = Connection(ConnectionType.CLIENT)
    answer = b"".join(encode_frame(BINARY, message) for message in messages)
    answer += encode_frame(0xA, b"x") + encode_close(1001, "the relay leaves")
    events: list[WsEvent] = []
    for at in range(0, len(answer), step):
        client.receive_data(answer[at : at + step])
        events += client.events()
    data = b"".join(bytes(event.data) for event in events if isinstance(event, BytesMessage))
    assert data == b"".join(messages)
    assert Pong(payload=b"x") in events
    assert events[-1] == CloseConnection(code=1001, reason="the relay leaves")


@given(st.binary(max_size=200), st.integers(1, 50))
@example(b"\x82\x80\0\0\0\0" * 3, 1)
def test_noise_is_refused_or_understood_the_same_in_any_pieces(data: bytes, step: int) -> None:
    def outcome(size: int) -> object:
        frames, received = ClientFrames(LIMIT), b""
        try:
            for at in range(0, len(data), size):
                received += frames.feed(data[at : at + size])
        except Violation as error:
            return error.code, str(error)
        return received, frames.closed, frames.reply

    assert outcome(step) == outcome(max(1, len(data)))


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"\x82\x01a", 1002, "not masked"),
        (masked(1, b"text"), 1003, "a text message"),
        (masked(0x72, b""), 1002, "reserved bit"),
        (masked(0x3, b""), 1002, "unknown opcode 3"),
        (masked(0xB, b""), 1002, "unknown opcode 11"),
        (masked(0, b"more"), 1002, "out of order"),
        (masked(BINARY, b"a", fin=False) + masked(BINARY, b"b"), 1002, "out of order"),
        (masked(0x9, b"", fin=False), 1002, "fragmented or too long"),
        (masked(0x9, bytes(126)), 1002, "fragmented or too long"),
        (masked(BINARY, bytes(5), length=b"\x7e\0\x05"), 1002, "more bytes than it needs"),
        (masked(BINARY, bytes(130), length=b"\x7f\0\0\0\0\0\0\0\x82"), 1002, "more bytes than it needs"),
        (masked(BINARY, bytes(LIMIT + 1)), 1009, "longer than 1000"),
        (masked(BINARY, bytes(600), fin=False) + masked(0, bytes(401)), 1009, "longer than 1000"),
        (masked(CLOSE, b"\x03"), 1002, "no code"),
        (masked(CLOSE, b"\x03\xed"), 1002, "no code"),  # 1005 is never sent
        (masked(CLOSE, b"\x03\xe8\xff"), 1007, "not UTF-8"),
    ],
)
def test_what_a_client_may_not_send(data: bytes, code: int, reason: str) -> None:
    found, said = violation(data)
    assert found == code
    assert reason in said


def test_a_length_is_refused_before_its_payload_comes() -> None:
    head = masked(BINARY, b"", length=b"\x7f" + (1 << 40).to_bytes(8, "big"))[:10]
    assert violation(head)[0] == 1009


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa0private"])
def test_closing(payload: bytes) -> None:
    frames = ClientFrames(LIMIT)
    assert frames.feed(masked(BINARY, b"last") + masked(CLOSE, payload) + b"whatever follows") == b"last"
    assert frames.closed == (
        (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")
    )
    assert frames.reply == encode_frame(CLOSE, payload[:2])


def test_a_long_reason_is_cut_at_a_character() -> None:
    frame = encode_close(1002, "ü" * 100)
    assert len(frame) <= 2 + 125
    assert frame[4:].decode() == "ü" * 61
