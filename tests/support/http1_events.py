"""Driving the HTTP/1.1 parsers in tests: bytes cut into pieces, events as if they had not been cut."""

from collections.abc import Iterable, Sequence

from whook.http1 import (
    Body,
    End,
    Failed,
    RequestEvent,
    RequestHead,
    RequestParser,
    ResponseEvent,
    ResponseHead,
    ResponseParser,
    Upgraded,
)

Event = RequestEvent | ResponseEvent


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut `data` at the given places."""
    places = sorted({cut for cut in cuts if 0 < cut < len(data)})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def byte_by_byte(data: bytes) -> list[bytes]:
    return pieces(data, range(len(data)))


def normal(events: Sequence[Event]) -> list[object]:
    """Neighbouring Body and Upgraded events joined, errors as tuples."""
    out: list[object] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Body) and isinstance(last, Body):
            out[-1] = Body(last.data + event.data)
        elif isinstance(event, Upgraded) and isinstance(last, Upgraded):
            out[-1] = Upgraded(last.data + event.data)
        elif isinstance(event, Failed):
            out.append((event.error.status, event.error.type, event.error.detail))
        else:
            out.append(event)
    return out


def requests(chunks: Iterable[bytes], parser: RequestParser | None = None) -> list[object]:
    """Everything that comes of these bytes; upgrades are refused when all of them have been fed."""
    parser = RequestParser() if parser is None else parser
    events: list[RequestEvent] = []
    for chunk in chunks:
        events += parser.feed(chunk)
    while parser.upgrade_pending:
        events += parser.refuse_upgrade()
    return normal(events)


def responses(
    chunks: Iterable[bytes], *methods: bytes, upgrade: bool = False, parser: ResponseParser | None = None
) -> list[object]:
    """Everything that comes of these bytes and the end of the connection."""
    parser = ResponseParser() if parser is None else parser
    for method in methods:
        parser.expect(method, upgrade=upgrade)
    events: list[ResponseEvent] = []
    for chunk in chunks:
        events += parser.feed(chunk)
    events += parser.eof()
    return normal(events)


def failure(events: Sequence[object]) -> tuple[int, str]:
    """Status and type of the error that the events end with."""
    assert events, "no events at all"
    last = events[-1]
    assert isinstance(last, tuple), f"not refused: {events}"
    return last[0], last[1]


def check_order(events: Sequence[Event]) -> None:
    """Heads, bodies and ends follow each other as documented, and nothing follows Failed."""
    state = "head"
    for event in events:
        assert state != "failed"
        match event:
            case RequestHead():
                assert state == "head"
                state = "body"
            case ResponseHead(status=status):
                assert state == "head"
                state = "head" if status < 200 and status != 101 else "body"
            case Body(data=data):
                assert state == "body"
                assert data
            case End():
                assert state == "body"
                state = "head"
            case Upgraded():
                assert state in ("body", "raw")
                state = "raw"
            case Failed():
                state = "failed"
