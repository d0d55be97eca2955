"""The switch with somebody looking on: a log line or a span for exchanges, where that is wanted.

`service` uses it in the place of `Switch`. While neither lines nor traces are on it costs one more call for
each exchange. Only then does the relay decode an OPEN, and only to read which event it carries; a refusal is
always told with its event. Must never change what is switched, nor fail because of what it cannot read.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import trio

from whook.chassis.logs import get_logger
from whook.chassis.verbosity import VERBOSITY
from whook.telemetry.traceparent import Trace, find_traceparent
from whook.telemetry.tracing import Tracer
from whook.wire import ProtocolError, Request, ResetCode, decode_open, peek_route
from whook_relay.held import Circuit, Trunk, Tunnel
from whook_relay.switch import Switch

REFUSALS_PER_SECOND: Final = 20
"""Refusals told in one second. Beyond it they are only counted, by `whook_relay_refusals_total`."""

_ENDED: Final = 3

_log = get_logger("whook.relay.exchanges")


@dataclass(slots=True)
class _Seen:
    """An exchange that somebody looks at. Times are nanoseconds since the epoch."""

    event_id: str
    attempt: int
    told: bool
    trace: Trace | None
    began: int


class ObservedSwitch(Switch):
    """A switch that tells of its exchanges."""

    def __init__(self, *, max_exchanges: int, max_watchers: int, tracer: Tracer | None = None) -> None:
        super().__init__(max_exchanges=max_exchanges, max_watchers=max_watchers)
        self._tracer = tracer
        self._seen: dict[Circuit, _Seen] = {}
        self._refusal: tuple[ResetCode, str] | None = None
        self._second, self._told = 0, 0

    def _open(self, trunk: Trunk, flags: int, stream_id: int, payload: bytes) -> None:
        super()._open(trunk, flags, stream_id, payload)
        if self._refusal is not None:
            self._tell_refusal(payload)
        elif VERBOSITY.exchanges or self._tracer is not None:
            self._look(trunk.circuits[stream_id], payload)

    def _refuse(self, trunk: Trunk, stream_id: int, code: ResetCode, message: str) -> None:
        super()._refuse(trunk, stream_id, code, message)
        self._refusal = code, message

    def _close(self, circuit: Circuit) -> None:
        super()._close(circuit)
        if self._seen:
            self._over(circuit, "" if circuit.ended == _ENDED else "broken off")

    def _fail_circuits(self, tunnel: Tunnel, reason: str) -> None:
        lost = list(tunnel.circuits.values()) if self._seen else []
        super()._fail_circuits(tunnel, reason)
        for circuit in lost:
            self._over(circuit, reason)

    def _look(self, circuit: Circuit, payload: bytes) -> None:
        request = _read(payload)
        if request is None:
            return
        event_id = request.event_id
        told = VERBOSITY.chosen(event_id)
        tracer = self._tracer
        trace = None if tracer is None else tracer.trace(event_id, find_traceparent(request.headers))
        if told or trace is not None:
            self._seen[circuit] = _Seen(event_id, request.attempt, told, trace, time.time_ns())

    def _over(self, circuit: Circuit, error: str) -> None:
        seen = self._seen.pop(circuit, None)
        if seen is None:
            return
        tunnel, ended = circuit.tunnel, time.time_ns()
        if seen.told:
            log = _log.bind(
                event_id=seen.event_id, tunnel=tunnel.id, project=tunnel.project, attempt=seen.attempt
            )
            seconds = round((ended - seen.began) / 1e9, 4)
            if error:
                log.info("exchange broken off", reason=error, seconds=seconds)
            else:
                log.info("exchange carried", seconds=seconds)
        if seen.trace is not None and self._tracer is not None:
            self._tracer.hop(
                "tunnel", seen.trace, seen.event_id, seen.attempt, seen.began, ended,
                name=f"switch {tunnel.project}", kind="internal", error=error,
                **{"whook.project": tunnel.project, "whook.tunnel": tunnel.id},
            )  # fmt: skip

    def _tell_refusal(self, payload: bytes) -> None:
        refusal, self._refusal = self._refusal, None
        second = int(trio.current_time())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        request = _read(payload)
        if refusal is None or request is None or self._told > REFUSALS_PER_SECOND:
            return
        code, message = refusal
        _log.info(
            "exchange refused",
            event_id=request.event_id,
            tunnel=peek_route(payload).decode("ascii", "replace"),
            attempt=request.attempt,
            problem=code.name.lower(),
            reason=message,
        )


def _read(payload: bytes) -> Request | None:
    try:
        return decode_open(payload)
    except ProtocolError:
        return None  # the client will say so
