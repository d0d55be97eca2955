"""Frames and events of the wire as short texts, so that a test reads as a conversation.

`frames("HEAD 1 200", "DATA 1 'hello' end")` gives the bytes of these frames; `show_frames` and `show_event`
say what frames and events are, in the same words. `Talk` is one endpoint that is spoken to in them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

from whook.wire import (
    CREDIT,
    DATA,
    END,
    END_STREAM,
    GOAWAY,
    HEAD,
    HELLO,
    OPEN,
    PING,
    RESET,
    WATCH,
    CreditReceived,
    DataReceived,
    Ended,
    Endpoint,
    Event,
    Frame,
    FrameReader,
    GoAwayCode,
    GoAwayReceived,
    HeadReceived,
    Hello,
    HelloReceived,
    Opened,
    Request,
    ResetCode,
    Response,
    Role,
    Stream,
    WasReset,
    decode_goaway,
    decode_open,
    decode_reset,
    encode_frame,
    encode_goaway,
    encode_hello,
    encode_open,
    encode_reset,
    encode_response,
)
from whook.wire.messages import decode_response, decode_trailers, encode_end

ROUTE = b"tun_1"
NAMES = {
    HELLO: "HELLO", OPEN: "OPEN", HEAD: "HEAD", DATA: "DATA", END: "END", RESET: "RESET", CREDIT: "CREDIT",
    GOAWAY: "GOAWAY", PING: "PING",
}  # fmt: skip
_WORDS = re.compile(r"'[^']*'|\S+")


def request(target: bytes = b"/hook") -> Request:
    """Give a request head."""
    return Request("evt_1", 1, 30_000, "https", "192.0.2.1", b"POST", target, [(b"Host", b"shop.example")])


def response(status: int = 200) -> Response:
    """Give a response head."""
    return Response(status, b"", [])


def frame(text: str) -> bytes:
    """Give the frame that `text` describes; see the module."""
    kind, *rest = _WORDS.findall(text)
    flags = (END_STREAM if "end" in rest else 0) | (WATCH if "watch" in rest else 0)
    words = [word for word in rest if word not in {"end", "watch"}]
    if kind == "HELLO":
        return encode_hello(Hello(version=1, agent="test", peer="relay"))
    if kind == "GOAWAY":
        return encode_goaway(GoAwayCode[words[0]])
    stream, arguments = int(words[0]), words[1:]
    if kind == "OPEN":
        return encode_open(stream, flags, ROUTE, request())
    if kind == "HEAD":
        return encode_response(stream, flags, response(int(arguments[0])))
    if kind == "DATA":
        return encode_frame(DATA, flags, stream, _data(arguments[0]))
    if kind == "END":
        return encode_end(stream, [(b"X-Sum", word.encode()) for word in arguments])
    if kind == "RESET":
        return encode_reset(stream, ResetCode[arguments[0]])
    if kind == "CREDIT":
        return encode_frame(CREDIT, 0, stream, int(arguments[0]).to_bytes(4, "big"))
    raise ValueError(text)


def frames(*texts: str) -> bytes:
    """Give several frames after one another."""
    return b"".join(frame(text) for text in texts)


def _data(word: str) -> bytes:
    return str(ast.literal_eval(word)).encode() if word.startswith("'") else b"x" * int(word)


def _shown(data: bytes) -> str:
    return f"'{data.decode('latin-1')}'" if len(data) <= 20 and data.strip(b"x") else str(len(data))


def _text(*words: object, end: bool = False) -> str:
    return " ".join(str(word) for word in (*words, "end" if end else "") if word != "")


def _reset(code: int) -> str:
    return ResetCode(code).name if code in set(ResetCode) else str(code)


def _goaway(code: int) -> str:
    return GoAwayCode(code).name if code in set(GoAwayCode) else str(code)


def show_frame(each: Frame) -> str:
    """Say what a frame is."""
    kind, flags, stream, payload = each
    name, end = NAMES[kind], bool(flags & END_STREAM)
    if kind == OPEN:
        decode_open(payload)
        return _text(name, stream, "watch" if flags & WATCH else "", end=end)
    if kind == HEAD:
        return _text(name, stream, decode_response(payload).status, end=end)
    if kind == DATA:
        return _text(name, stream, _shown(payload), end=end)
    if kind == END:
        return _text(name, stream, *(value.decode("latin-1") for _, value in decode_trailers(payload)))
    if kind == RESET:
        return _text(name, stream, _reset(decode_reset(payload).code))
    if kind == CREDIT:
        return _text(name, stream, int.from_bytes(payload, "big"))
    if kind == GOAWAY:
        return _text(name, _goaway(decode_goaway(payload).code))
    return name


def show_frames(data: bytes) -> list[str]:
    """Say what the frames in `data` are; all of them must be whole."""
    reader = FrameReader()
    shown = [show_frame(each) for each in reader.feed(data)]
    assert not reader.partial
    return shown


def show_event(event: Event) -> str:
    """Say what an event is."""
    if isinstance(event, HelloReceived):
        return "hello"
    if isinstance(event, GoAwayReceived):
        return _text("goaway", _goaway(event.goaway.code))
    number = event.stream.id
    if isinstance(event, Opened):
        return _text("opened", number, "watch" if event.stream.watch else "", end=event.ended)
    if isinstance(event, HeadReceived):
        return _text("head", number, event.response.status, end=event.ended)
    if isinstance(event, DataReceived):
        return _text("data", number, _shown(event.data), end=event.ended)
    if isinstance(event, Ended):
        return _text("ended", number, *(value.decode("latin-1") for _, value in event.trailers))
    if isinstance(event, WasReset):
        return _text("reset", number, _reset(event.code))
    assert isinstance(event, CreditReceived)
    return _text("credit", number)


def show_events(events: Iterable[Event]) -> list[str]:
    """Say what events are."""
    return [show_event(event) for event in events]


class Talk:
    """One endpoint. What it does returns the frames it sends; `hear` returns what it makes of a peer's."""

    def __init__(self, role: Role) -> None:
        self.endpoint = Endpoint(role)
        self.known: dict[int, Stream] = {}
        self._reader = FrameReader()

    def hear(self, *texts: str) -> list[str]:
        """Receive frames; give the events, and behind them the frames sent in reply."""
        return self.hear_bytes(frames(*texts))

    def hear_bytes(self, data: bytes) -> list[str]:
        """Receive bytes, as `hear`."""
        events = self.endpoint.receive(self._reader.feed(data))
        self.known.update({event.stream.id: event.stream for event in events if isinstance(event, Opened)})
        return show_events(events) + [f"→ {each}" for each in show_frames(self.endpoint.take_replies())]

    def open(self, *, end: bool = False) -> list[str]:
        """Open the next stream."""
        stream, data = self.endpoint.open(ROUTE, request(), end=end)
        self.known[stream.id] = stream
        return show_frames(data)

    def head(self, stream: int, status: int, *, end: bool = False) -> list[str]:
        """Send a response head."""
        return self._do("send_head", stream, response(status), end=end)

    def data(self, stream: int, data: bytes | int, *, end: bool = False) -> list[str]:
        """Send a piece of a body, given as it is or by its size."""
        return self._do("send_data", stream, b"x" * data if isinstance(data, int) else data, end=end)

    def end(self, stream: int, *trailers: str) -> list[str]:
        """End our direction."""
        return self._do("send_end", stream, [(b"X-Sum", value.encode()) for value in trailers])

    def reset(self, stream: int, code: ResetCode = ResetCode.CANCELLED) -> list[str]:
        """Give a stream up."""
        return self._do("reset", stream, code)

    def take(self, stream: int, size: int) -> list[str]:
        """Take received data out of the queue."""
        return self._do("consume", stream, size)

    def _do(self, name: str, stream: int, *args: Any, **kwargs: Any) -> list[str]:
        return show_frames(getattr(self.endpoint, name)(self.known[stream], *args, **kwargs))

    @property
    def open_streams(self) -> list[int]:
        """Ids of the streams in the table."""
        return sorted(self.endpoint.streams)


def opener() -> Talk:
    """The conductor's end."""
    return Talk(Role.OPENER)


def answerer() -> Talk:
    """The CLI's end."""
    return Talk(Role.ANSWERER)
