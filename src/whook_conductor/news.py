"""News for the history: what an outcome says, as the history's records.

Called by `capture` when a request is over, and by `recorder` for what was not made then. Nothing here does
I/O, and nothing decides what becomes of a request.
"""

from __future__ import annotations

from typing import Final

from whook.backplane.ports import Delivery, News, Record, State
from whook_conductor.outcomes import Outcome

_SERVER_ERROR: Final = 500
_TRY_AGAIN: Final = frozenset({408, 425, 429})


def news_of(outcome: Outcome) -> News | None:
    """Return the news in an outcome; None where there is nothing to record."""
    return outcome.news or record_of(outcome)


def record_of(outcome: Outcome) -> Record | None:
    """Return the news in an outcome; None where there is nothing to record."""
    event = outcome.event
    if event is None or not outcome.project_id:
        return None
    live = outcome.origin == "live"
    began = outcome.received_at if live else outcome.began_at
    state = _state(outcome)
    waits = outcome.result == "buffered"
    delivery = None
    if outcome.attempt:
        refused = live and outcome.result in ("refused", "buffered")
        delivery = Delivery(
            event_id=outcome.event_id,
            attempt=outcome.attempt,
            origin=outcome.origin,
            began_at=began,
            to_head=outcome.to_head,
            duration=outcome.duration,
            # What the sender was told instead of a response is no response.
            status=0 if refused else outcome.status,
            problem=outcome.slug,
            response=outcome.response,
        )
    return Record(
        event_id=outcome.event_id,
        project_id=outcome.project_id,
        state=state,
        # What waits may be delivered before its sender has read the acknowledgement.
        at=began if waits else began + outcome.duration,
        event=event,
        delivery=delivery,
    )


def _state(outcome: Outcome) -> State:
    if outcome.origin != "live":
        status = outcome.status
        delivered = 0 < status < _SERVER_ERROR and status not in _TRY_AGAIN
        return "answered" if delivered else "buffered"
    if outcome.result == "buffered":
        return "buffered"
    return "answered" if outcome.result in ("answered", "upgraded") else "refused"
