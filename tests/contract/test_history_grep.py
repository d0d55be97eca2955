"""What every search for text in the history must do."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.history import SHOP, T0, answered
from whook.backplane.ports import EventQuery, History, Record


async def grep(history: History, text: str, **fields: Any) -> list[str]:
    query = EventQuery(grep=text, oldest_first=True, **fields)
    return [summary.id for summary in await history.find(SHOP, query)]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("delete", {"method": b"DELETE"}),
        ("/ORDERS/17", {"target": b"/v1/orders/17?x=1"}),
        ("x-github-event: PUSH", {"headers": [(b"X-GitHub-Event", b"push")]}),
        ("needle", {"body": b"\x00\xfe" * 500 + b"NeEdLe" + b"\xff"}),
        ("Größe", {"body": "größe: Größe".encode()}),
        ("\udcff\udc00\udcfe", {"body": b"..\xff\x00\xfe"}),
        ("deep", {"body": random.Random(1).randbytes(400_000) + b"deep" + bytes(1_500_000)}),
    ],
)
async def test_it_is_found(history: History, text: str, fields: dict[str, Any]) -> None:
    hit = answered(T0 + 1, **fields)
    await history.record([answered(T0), hit, answered(T0 + 2)])
    if text.startswith("\udcff"):
        text = b"\xff\x00\xfe".decode("utf-8", "surrogateescape")
    assert await grep(history, text) == [hit.event_id]


async def test_letters_beyond_ascii_keep_their_case(history: History) -> None:
    await history.record([answered(body="Ä".encode())])
    assert await grep(history, "ä") == []


async def test_it_finds_neither_responses_nor_what_spans_parts(history: History) -> None:
    record = answered(target=b"/a", body=b"b")
    assert record.delivery is not None
    assert record.delivery.response is not None
    assert record.delivery.response.body == b"ok"
    await history.record([record])
    assert await grep(history, "/ab") == []
    assert await grep(history, "sig: 2b") == []
    assert await grep(history, "ok") == []


async def test_the_other_conditions_hold_and_pages_go_on(history: History) -> None:
    records: list[Record] = [
        answered(T0 + n, body=b"needle" if n % 2 else b"hay", project_id=SHOP if n % 5 else "prj_blog")
        for n in range(60)
    ]
    await history.record(records)
    expected = [record.event_id for n, record in enumerate(records) if n % 2 and n % 5 and 10 <= n < 50]
    got: list[str] = []
    while page := await grep(
        history, "needle", since=T0 + 10, until=T0 + 50, limit=6, after=got[-1] if got else ""
    ):
        got += page
    assert got == expected


async def test_many_events_are_searched(history: History) -> None:
    """More than one transaction looks into, with the hits far apart."""
    records = [answered(T0 + n, body=b"needle" if n in {3, 700} else b"hay") for n in range(900)]
    await history.record(records)
    found = await history.find(SHOP, EventQuery(grep="needle"))
    assert [summary.id for summary in found] == [records[700].event_id, records[3].event_id]
    assert found.scanned_to == ""


async def test_a_search_that_costs_too_much_says_how_far_it_came(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whook.backplane.sql.history_read import Scan

    monkeypatch.setattr(Scan, "MAX_EVENTS", 40)
    monkeypatch.setattr(Scan, "PIECE", 10)
    records = [answered(T0 + n, body=b"needle" if n == 95 else b"hay") for n in range(100)]
    await history.record(records)
    query = EventQuery(grep="needle", oldest_first=True)
    found = await history.find(SHOP, query)
    assert (found, found.scanned_to) == ([], records[39].event_id)
    pages = 0
    while found.scanned_to:
        found = await history.find(SHOP, EventQuery(grep="needle", oldest_first=True, after=found.scanned_to))
        pages += 1
    assert [summary.id for summary in found] == [records[95].event_id]
    assert pages == 2
