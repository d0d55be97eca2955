"""Several clients on one project: one holds it, another is refused, takes it over, or watches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.dev import Served, whook_connect, whook_serve
from tests.support.origin import Origin, reply, response
from tests.support.rawhttp import post

HELD, REPLACED = 6, 8
"""Exit statuses that the documentation promises."""


@dataclass(frozen=True, slots=True)
class House:
    """A server, and two local servers that can be told apart."""

    server: Served
    first: Origin
    second: Origin


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    first, second = (Origin(reply(response(name))) for name in (b"first", b"second"))
    with first, second, whook_serve(tmp_path) as server:
        yield House(server, first, second)


def test_project_is_held(house: House) -> None:
    """Another client is refused with the holder's name, and changes nothing."""
    with whook_connect(house.server, "shop", forward=house.first.url) as first:
        with whook_connect(house.server, "shop", forward=house.second.url, wait=False) as second:
            assert second.process.wait() == HELD
            assert any("--takeover" in line for line in second.process.errors)
        assert post(house.server.port, first.host).body == b"first"


def test_takeover(house: House) -> None:
    """The new client gets the requests; the old one ends, and its end does not remove the new one's route."""
    with whook_connect(house.server, "shop", forward=house.first.url) as first:
        assert post(house.server.port, first.host).body == b"first"
        with whook_connect(house.server, "shop", "--takeover", forward=house.second.url) as second:
            assert first.process.wait() == REPLACED
            for _ in range(3):
                assert post(house.server.port, second.host).body == b"second"


def test_watch(house: House) -> None:
    """A watcher sees every request and answers none; its end is not noticed."""
    with whook_connect(house.server, "shop", forward=house.first.url) as holder:
        with whook_connect(house.server, "shop", "--watch") as watcher:
            for number in range(3):
                answer = post(house.server.port, holder.host, b"{}", b"/seen/%d" % number)
                assert answer.body == b"first"
            for number in range(3):
                seen = watcher.process.wait_event("request", target=f"/seen/{number}")
                assert seen["watched"] is True
            assert watcher.process.stop() == 0
        assert post(house.server.port, holder.host, target=b"/last").body == b"first"
        holder.process.wait_event("request", target="/last")
        assert [e["watched"] for e in holder.process.events if e["event"] == "request"] == [False] * 4


def test_two_projects_do_not_meet(house: House) -> None:
    with (
        whook_connect(house.server, "shop", forward=house.first.url) as shop,
        whook_connect(house.server, "blog", forward=house.second.url) as blog,
    ):
        assert post(house.server.port, shop.host).body == b"first"
        assert post(house.server.port, blog.host).body == b"second"
