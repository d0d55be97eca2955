"""How events look: a line each for lists, a block for one with its deliveries, JSON for scripts.

Used by `events_commands`. Pure. What a sender or a local server wrote is in these texts only through
`whook_cli.text.printable` or the JSON encoder.
"""

import json
from datetime import datetime
from typing import Final

import msgspec

from whook_cli.events_api import Content, Delivery, Event, EventDetail, Pairs
from whook_cli.records import Capture, Headers
from whook_cli.text import duration, printable, shorten, size

TARGET_WIDTH: Final = 160
"""Characters of a target that are printed in a list."""

_COLOURS: Final = {"answered": "32", "buffered": "36", "dead": "31", "refused": "33"}


class Look:
    """Turns events into lines for people."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def line(self, event: Event) -> str:
        """Give the line of a list."""
        state = self._paint(_COLOURS.get(event.state, "0"), f"{printable(event.state):<8}")
        status = str(event.last_status or "---")
        tries = f"{event.deliveries}×" if event.deliveries > 1 else "  "  # noqa: RUF001
        method = self._paint("1", f"{printable(event.method):<6}")
        target = shorten(printable(event.target), TARGET_WIDTH)
        problem = f"  ({printable(event.last_problem)})" if event.last_problem else ""
        return (
            f"{self._paint('2', _clock(event.received_at))}  {state}  {status} {tries}  "
            f"{size(event.body_size):>7}  {printable(event.id)}  {method} {target}{problem}"
        )

    def block(self, event: EventDetail) -> str:
        """Give everything that is known of one event."""
        request = event.request
        lines: list[str | None] = [
            f"{self._paint('1', printable(event.id))}  {printable(event.project)}  {printable(event.state)}",
            f"received {_clock(event.received_at, exact=True)} from {printable(event.peer)} "
            f"by {printable(request.scheme)}, {size(event.body_size)} of body",
            "",
        ]
        start = f"{printable(event.method)} {printable(event.target)} HTTP/{printable(request.version)}"
        lines += self._message(">", start, request.headers, request.body)
        lines += self._trailers(">", request.trailers)
        for delivery in event.history:
            lines += ["" if lines[-1] else None, *self._delivery(delivery)]
        while not lines[-1]:
            lines.pop()
        return "\n".join(line for line in lines if line is not None)

    def _delivery(self, one: Delivery) -> list[str]:
        head = f", head after {duration(one.to_head)}" if one.to_head is not None else ""
        what = f"delivery {one.attempt} ({printable(one.origin)})"
        lines = [
            f"{self._paint('1', what)}  {_clock(one.began_at, exact=True)}, "
            f"took {duration(one.duration)}{head}"
        ]
        if one.response is not None:
            answer = one.response
            start = f"{answer.status} {printable(answer.reason)}"
            lines += self._message("<", start, answer.headers, answer.body)
            lines += self._trailers("<", answer.trailers)
        elif one.status:
            lines.append(f"  {one.status}, of which no more was kept")
        else:
            lines.append("  no response")
        if one.problem:
            lines.append(f"  {self._paint('31', printable(one.problem))}")
        return lines

    def _message(self, mark: str, start: str, headers: Pairs, body: Content) -> list[str]:
        from whook_cli.verbose import side  # rich is only loaded to show a body

        shown, capture = to_bytes(headers), Capture()
        data = body.data()
        if data is not None:
            capture.add(data)
        lines = side(mark, start, shown, capture, self._colour)
        if data is None:
            lines.append(f"    ({size(body.size)} of body: not shown here)")
        return [line.rstrip() if not line.strip() else line for line in lines]

    def _trailers(self, mark: str, trailers: Pairs) -> list[str]:
        return [f"  {mark} {printable(n)}: {printable(v)}  (trailer)" for n, v in to_bytes(trailers)]


def to_bytes(pairs: Pairs) -> Headers:
    """Give fields as they were on the wire: the API writes one character for each byte."""
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in pairs]


def event_line(event: Event) -> str:
    """Give an event as one JSON object, ASCII only: the keys are those of the API."""
    return json.dumps(msgspec.to_builtins(event))


def _clock(at: datetime, *, exact: bool = False) -> str:
    local = at.astimezone()
    return local.isoformat(" ", "milliseconds" if exact else "seconds")[: None if exact else 19]
