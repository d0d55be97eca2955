"""Upgrade requests: whose are the bytes behind them (RFC 9110, 7.8)."""

import pytest

from tests.support.http1_events import byte_by_byte, failure, normal, requests
from whook.http1 import Body, End, RequestEvent, RequestHead, RequestParser, Upgraded

ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
NEXT = b"POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def pending(*feeds: bytes) -> tuple[RequestParser, list[RequestEvent]]:
    parser = RequestParser()
    events = [event for data in feeds for event in parser.feed(data)]
    assert parser.upgrade_pending
    return parser, events


@pytest.mark.parametrize(
    "feeds", [[ASK + b"\x81\x00raw"], [ASK, b"\x81\x00raw"], byte_by_byte(ASK + b"\x81\x00raw")]
)
def test_accepted(feeds: list[bytes]) -> None:
    parser, events = pending(*feeds)
    head, end = events
    assert isinstance(head, RequestHead)
    assert head.upgrade
    assert end == End([])
    assert parser.accept_upgrade() == b"\x81\x00raw"
    assert parser.feed(b"more") == [Upgraded(b"more")]
    assert parser.feed(NEXT) == [Upgraded(NEXT)]
    assert parser.finished
    assert not parser.upgrade_pending


@pytest.mark.parametrize("feeds", [[ASK + NEXT], [ASK, NEXT], byte_by_byte(ASK + NEXT)])
def test_refused_and_the_next_request_follows(feeds: list[bytes]) -> None:
    parser, _ = pending(*feeds)
    head, body, end = parser.refuse_upgrade()
    assert isinstance(head, RequestHead)
    assert (head.target, body, end) == (b"/next", Body(b"hi"), End([]))
    assert not parser.upgrade_pending
    assert not parser.in_message


def test_refused_in_the_middle_of_the_next_request() -> None:
    parser, _ = pending(ASK + NEXT[:10])
    assert parser.refuse_upgrade() == []
    assert parser.in_message
    assert [type(e) for e in parser.feed(NEXT[10:])] == [RequestHead, Body, End]


def test_one_upgrade_request_after_another() -> None:
    parser, _ = pending(ASK + ASK + NEXT)
    assert [type(e) for e in parser.refuse_upgrade()] == [RequestHead, End]
    assert parser.upgrade_pending
    assert parser.accept_upgrade() == NEXT


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 5\r\n", b"hello"),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_the_body_of_an_upgrade_request_is_its_body(fields: bytes, body: bytes, *, split: bool) -> None:
    data = ASK[:-2].replace(b"GET", b"POST") + fields + b"\r\n" + body + b"raw"
    parser, events = pending(*(byte_by_byte(data) if split else [data]))
    assert normal(events)[1:] == [Body(b"hello"), End([])]
    assert parser.accept_upgrade() == b"raw"


def test_refused_when_the_request_also_closes() -> None:
    parser, _ = pending(ASK.replace(b"keep-alive", b"close") + NEXT)
    assert parser.refuse_upgrade() == []
    assert parser.finished


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade:\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.0\r\nConnection: Upgrade, keep-alive\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_what_asks_for_no_upgrade(data: bytes) -> None:
    events = requests([data + NEXT])
    heads = [e for e in events if isinstance(e, RequestHead)]
    assert [h.upgrade for h in heads] == [False, False]
    assert heads[1].target == b"/next"


def test_held_bytes_are_bounded() -> None:
    parser = RequestParser(max_head=200)
    parser.feed(ASK)
    assert parser.feed(b"x" * 200) == []
    assert failure(normal(parser.feed(b"x"))) == (400, "bad-request")
    with pytest.raises(RuntimeError):
        parser.accept_upgrade()


def test_without_a_pending_upgrade_both_answers_are_an_error() -> None:
    parser = RequestParser()
    parser.feed(NEXT)
    with pytest.raises(RuntimeError):
        parser.refuse_upgrade()
    with pytest.raises(RuntimeError):
        parser.accept_upgrade()
