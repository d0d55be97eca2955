"""Far ends as processes: `answer` carries one project's webhooks, `hold` keeps many tunnels open and idle.

Run as `python -m bench.far_end answer|hold API ...` by the scenarios; the token comes in WHOOK_TOKEN. With a
signing key in WHOOK_BENCH_KEY, API is a relay's own URL, and the far end signs its tunnel tokens itself. Each
prints {"at": "ready"} (`hold` for each batch) and ends when the parent ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys

from bench.tunnel import Grants, OwnGrants, Tunnel, source_of


def say(**values: object) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def answer(api: str, project: str) -> None:
    """Answer one project's webhooks until the parent ends this process."""
    tunnel = Tunnel(Grants(api, os.environ["WHOOK_TOKEN"]).ask(project, "bench"), "bench")
    say(at="ready")
    while True:
        tunnel.turn()


def hold(grants: Grants | OwnGrants, batches: list[int]) -> None:
    """Open a batch of tunnels for each line on standard input, each for its own project; keep them alive."""
    epoll = select.epoll()
    tunnels: dict[int, Tunnel] = {}
    commands = sys.stdin.fileno()
    epoll.register(commands, select.EPOLLIN)
    say(at="ready", open=0)
    while True:
        for fd, _ in epoll.poll():
            if fd != commands:
                tunnels[fd].turn()
                continue
            if not sys.stdin.readline():
                return
            for _ in range(batches.pop(0)):
                number = len(tunnels)
                instance = f"bench-{number}"
                tunnel = Tunnel(grants.ask(f"idle-{number}", instance), instance, source_of(number))
                tunnels[tunnel.sock.fileno()] = tunnel
                epoll.register(tunnel.sock.fileno(), select.EPOLLIN)
            say(at="ready", open=len(tunnels))


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("answer", "hold"))
    parser.add_argument("api")
    parser.add_argument("--project", default="bench")
    parser.add_argument("--batches", default="100,1000")
    args = parser.parse_args()
    if args.what == "answer":
        answer(args.api, args.project)
    else:
        key, token = os.environ.get("WHOOK_BENCH_KEY"), os.environ.get("WHOOK_TOKEN", "")
        grants = OwnGrants(args.api, key) if key else Grants(args.api, token)
        hold(grants, [int(size) for size in args.batches.split(",")])


if __name__ == "__main__":
    main()
