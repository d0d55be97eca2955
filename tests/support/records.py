"""Records of the command line, as its tests need them, and what is left of a coloured text."""

import re

from whook_cli.records import Capture, RequestRecord

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def record(**changes: object) -> RequestRecord:
    values: dict[str, object] = {
        "at": 1_700_000_000.25,
        "event_id": "evt_1",
        "attempt": 1,
        "client": "192.0.2.1",
        "method": b"POST",
        "target": b"/hook?a=1",
        "status": 200,
        "seconds": 0.0125,
        "request_bytes": 10,
        "response_bytes": 20,
        "tunnel": "tun_7",
    }
    return RequestRecord(**(values | changes))  # type: ignore[arg-type]


def captured(data: bytes) -> Capture:
    capture = Capture()
    capture.add(data)
    return capture
