"""Events, deliveries and news of them, as the tests of the history need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from whook.backplane.ports import (
    Delivery,
    News,
    Origin,
    Record,
    State,
    StoredEvent,
    StoredResponse,
    encode_record,
)
from whook.backplane.sql.history import SqlHistory
from whook.chassis.ids import new_id
from whook_conductor.capture import MAX_ENCODED

T0 = 1_790_000_000.0
"""When the first webhook of a test was received."""
SHOP = "prj_shop"


def stored_event(at: float = T0, project_id: str = SHOP, **fields: Any) -> StoredEvent:
    """Make an event whose parts are told apart in every byte that matters."""
    body = fields.pop("body", b'{"n": 1}\x00\xff')
    told: dict[str, Any] = {
        "id": new_id("evt"),
        "project_id": project_id,
        "project": project_id.removeprefix("prj_"),
        "received_at": at,
        "peer": "192.0.2.7",
        "trusted": False,
        "scheme": "https",
        "version": b"1.1",
        "method": b"POST",
        "target": b"/hook?a=%20b",
        "headers": [(b"Host", b"shop.example"), (b"X-Sig", b"\xe9=1"), (b"x-sig", b"2")],
        "body_size": len(body) if body is not None else 0,
        "body": body,
    }
    return StoredEvent(**(told | fields))


def delivered(event: StoredEvent, attempt: int = 1, **fields: Any) -> Delivery:
    """Make a delivery of the event that the local server answered with 200."""
    origin: Origin = "live" if attempt == 1 else "buffered"
    status = fields.get("status", 200)
    told: dict[str, Any] = {
        "event_id": event.id,
        "attempt": attempt,
        "origin": origin,
        "began_at": event.received_at + attempt - 1,
        "to_head": 0.25,
        "duration": 0.5,
        "status": status,
        "problem": "" if status else "tunnel-lost",
        "response": StoredResponse(
            status=status, reason=b"OK", headers=[(b"A", b"\xff")], body_size=2, body=b"ok"
        )
        if status
        else None,
    }
    return Delivery(**(told | fields))


def news(
    event: StoredEvent,
    state: State = "answered",
    delivery: Delivery | None = None,
    *,
    at: float | None = None,
    known: bool = False,
) -> Record:
    """Make news of an event; ``known`` leaves out the event itself."""
    return Record(
        event_id=event.id,
        project_id=event.project_id,
        state=state,
        at=event.received_at if at is None else at,
        event=None if known else event,
        delivery=delivery,
    )


def answered(at: float = T0, project_id: str = SHOP, **fields: Any) -> Record:
    """Make the news of one webhook that was answered at once."""
    event = stored_event(at, project_id, **fields)
    return news(event, "answered", delivered(event))


class EncodingHistory(SqlHistory):
    """A history whose news come as bytes wherever a conductor would send them so."""

    async def record(self, records: Sequence[News]) -> None:
        await super().record([as_sent(news) for news in records])


def as_sent(news: News) -> News:
    """Encode news of an event that nothing more is expected of."""
    if not isinstance(news, Record) or news.event is None or news.state not in ("answered", "refused"):
        return news
    live = news.delivery is None or news.delivery.origin == "live"
    kept = news.event.body is not None or not news.event.body_size
    return encode_record(news) if live and kept and news.event.body_size <= MAX_ENCODED else news
