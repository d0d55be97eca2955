"""The far end of the `backlog` scenario: one tunnel that answers webhooks and counts different events.

Run as `python -m bench.backlog_end API --project NAME`, the token in WHOOK_TOKEN. Prints {"at": "ready"}
once its tunnel is open and, with `--events N`, {"events": N, ...} once it has seen so many different ones and
answered the last; it stays until the parent ends it.
"""

from __future__ import annotations

import argparse
import os
import time

from bench.load import say
from bench.tunnel import Grants, Talk, Tunnel
from whook.wire import Opened


class Counting(Talk):
    """A far end that knows its events."""

    __slots__ = ("first", "repeated", "seen")

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.repeated = 0
        self.first = 0.0

    def opened(self, event: Opened) -> None:
        """Take note of a webhook."""
        self.first = self.first or time.monotonic()
        identity = event.request.event_id
        if identity in self.seen:
            self.repeated += 1
        self.seen.add(identity)


def main() -> None:
    """Open the tunnel, answer, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("api")
    parser.add_argument("--project", required=True)
    parser.add_argument("--events", type=int, default=0)
    args = parser.parse_args()
    talk = Counting()
    grant = Grants(args.api, os.environ["WHOOK_TOKEN"]).ask(args.project, "bench")
    tunnel = Tunnel(grant, "bench", talk=talk)
    say(at="ready")
    told = False
    while True:
        if not told and args.events and len(talk.seen) >= args.events:
            told = True
            seconds = time.monotonic() - talk.first
            say(events=len(talk.seen), repeated=talk.repeated, seconds=seconds)
        tunnel.turn()


if __name__ == "__main__":
    main()
