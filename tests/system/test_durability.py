"""What was acknowledged survives the death of the server; limits are met exactly.

`WHOOK_TEST_DURABILITY_ROUNDS` sets how often the server is killed, each time at another random moment;
`WHOOK_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.arrivals import Arrivals, Senders, check_arrivals
from tests.support.deadlines import DEADLINE
from tests.support.dev import Served, free_ports, whook_connect, whook_serve
from tests.support.rawhttp import Peer, post_bytes
from tests.support.whook_process import WhookProcess

ROUNDS = int(os.environ.get("WHOOK_TEST_DURABILITY_ROUNDS", "2"))
SEED = int(os.environ.get("WHOOK_TEST_SEED", "0")) or random.SystemRandom().randrange(2**32)
COUNT = 1_000
PROJECT = "shop"


def make_project(server: Served) -> None:
    """Make the project by asking for a tunnel that nobody opens."""
    response = httpx.post(
        f"{server.api}/v1/tunnels",
        json={"project": PROJECT},
        headers={"Authorization": f"Bearer {server.token}"},
        trust_env=False,
    )
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, round_: int) -> None:
    """1,000 webhooks, no tunnel, SIGKILL at a random moment, restart, tunnel: all arrive, in order, exact."""
    chance = random.Random(f"{SEED}/{round_}")
    after = chance.randrange(COUNT)
    ports = free_ports()
    with ExitStack() as stack:
        arrivals = stack.enter_context(Arrivals())
        with whook_serve(tmp_path, ports=ports) as server:
            make_project(server)
            senders = Senders(server.port, PROJECT, count=COUNT, threads=4, seed=chance.randrange(2**32))
            senders.start()
            senders.wait_told(after)
            threading.Event().wait(chance.uniform(0.0, 0.01))  # anywhere within a commit
            server.process.kill()
        server = stack.enter_context(whook_serve(tmp_path, ports=ports, token=server.token))
        told = senders.join()
        acknowledged = {one.path for one in told if one.status == 202}
        stack.enter_context(whook_connect(server, PROJECT, forward=arrivals.url))
        arrivals.wait_paths(acknowledged, 4 * DEADLINE)
        counts = check_arrivals(told, list(arrivals.all))
    print(f"seed {SEED} round {round_}: killed after {after} answers; {counts}")
    assert counts["acknowledged"] >= COUNT - 8, "the senders hardly got through"


def test_the_sender_sees_503_exactly_when_a_limit_is_reached(tmp_path: Path) -> None:
    with Arrivals() as arrivals, whook_serve(tmp_path) as server:
        make_project(server)
        run(server, tmp_path, "projects", "set", PROJECT, "max_count=50", "buffered_status=200")
        told = []
        for batch in range(2):
            senders = Senders(server.port, PROJECT, count=80, threads=4, seed=batch)
            senders.start()
            told.append(senders.join())
        statuses = [one.status for one in told[0]]
        assert (statuses.count(200), statuses.count(503)) == (50, 30)
        assert [one.status for one in told[1]] == [503] * 80
        refused = [one for one in (*told[0], *told[1]) if one.status == 503]
        assert {one.problem for one in refused} == {"urn:whook:problem:queue-fullproject-count"}
        assert all(one.retry_after for one in refused)
        with whook_connect(server, PROJECT, forward=arrivals.url) as client:
            waiting = client.process.wait_event("backlog")
            assert waiting["count"] == 50
            arrivals.wait_paths({one.path for one in told[0] if one.status == 200}, DEADLINE)
            check_arrivals(told[0], list(arrivals.all))
            assert len(arrivals.all) == 50
            assert client.process.wait_event("caught-up")["count"] == 50
            first = client.process.wait_event("request")
            assert (first["origin"], first["remaining"]) == ("buffered", 49)
            with Peer.connect(server.port) as sender:  # there is room again, and nobody to queue behind
                sender.send(post_bytes(client.host, b"{}", b"/live"))
                assert sender.read_response(b"POST").status == 200
            assert client.process.wait_event("request", target="/live")["origin"] == "live"


def run(server: Served, home: Path, *command: str) -> list[str]:
    """Run one command of the client to its end; gives what it printed."""
    env = {"WHOOK_TOKEN": server.token, "WHOOK_SERVER": server.api}
    with WhookProcess(*command, home=home / "client", env=env) as process:
        assert process.wait() == 0, process.story()
        return process.output


def test_a_policy_is_shown_set_and_taken_back(tmp_path: Path) -> None:
    with whook_serve(tmp_path) as server:
        make_project(server)
        settings = ("max-age=3d", "order=live-first", "buffer=off")
        shown = run(server, tmp_path, "projects", "set", PROJECT, *settings)
        assert [line.split() for line in shown if line.startswith(("max_age", "order", "buffer "))] == [
            ["buffer", "off"],
            ["order", "live-first"],
            ["max_age", "3d"],
        ]
        run(server, tmp_path, "projects", "set", PROJECT, "order=default")
        shown = run(server, tmp_path, "projects", "show", PROJECT)
        assert ["order", "strict"] in [line.split() for line in shown]
        assert ["waiting", "nothing"] in [line.split() for line in shown]
