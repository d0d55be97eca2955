"""`whook admin` against a whole server: what it prints, what it does, and how its refusals end it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dev import Served, whook_connect, whook_serve
from tests.support.rawhttp import post
from whook_cli.app import run
from whook_cli.exits import ExitCode
from whook_cli.table import age, table

Admin = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with whook_serve(Path(tmp_path_factory.mktemp("server"))) as running:
        yield running


@pytest.fixture
def admin(server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Admin:
    """Run `whook admin …` in this process; gives the exit status and what it printed."""
    monkeypatch.setenv("WHOOK_SERVER", server.api)
    monkeypatch.setenv("WHOOK_TOKEN", server.token)

    def call(*words: str) -> tuple[int, str, str]:
        status = run(["admin", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def printed(ran: tuple[int, str, str]) -> str:
    status, out, err = ran
    assert (status, err) == (0, ""), err
    return out


def objects(ran: tuple[int, str, str]) -> list[Any]:
    return [json.loads(line) for line in printed(ran).splitlines()]


def test_operators_see_all_and_kick(server: Served, admin: Admin) -> None:
    with whook_connect(server, "shop", wait=True) as client, whook_connect(server, "blog", wait=True):
        (relay,) = objects(admin("relays", "--json"))
        assert (relay["id"], relay["draining"], relay["routes"]) == ("relay-1", False, 2)
        assert 0 < relay["lease_left"] <= 15
        head, line = printed(admin("relays")).splitlines()
        assert head.split()[:3] == ["RELAY", "STATE", "TUNNELS"]
        assert line.split()[:2] == ["relay-1", "open"]

        blog, shop = objects(admin("tunnels", "--json"))
        assert (blog["project"], shop["project"]) == ("blog", "shop")
        assert objects(admin("tunnels", "shop", "--relay", "relay-1", "--json")) == [shop]
        assert objects(admin("tunnels", "shop", "--relay", "relay-2", "--json")) == []
        status, out, err = admin("tunnels", "--limit", "1", "--json")
        assert (status, json.loads(out)) == (0, blog)
        assert err == "whook: these are the first 1: --limit gives more\n"
        assert shop["id"] in printed(admin("tunnels"))

        out = printed(admin("kick", shop["id"]))
        assert out == f"Kicked {shop['holder']}, who held shop on relay-1.\n"
        assert client.process.wait() == ExitCode.UNAUTHORIZED
        assert "an operator closed it" in "\n".join(client.process.errors)
    assert admin("kick", "tun_none") == (
        ExitCode.NOT_FOUND,
        "",
        "whook: No project is held by a tunnel of this id\n",
    )


def test_what_waits(server: Served, admin: Admin) -> None:
    with whook_connect(server, "late", wait=True):
        pass
    for _ in range(2):
        assert post(server.port, b"late.localhost", b"{}").status == 202
    (queue,) = objects(admin("queue", "--json"))
    (entry,) = queue["projects"]
    assert (entry["project"], entry["backlog"]["count"], entry["dead"]) == ("late", 2, 0)
    assert (queue["total"]["count"], queue["dead"], queue["left_out"]) == (2, 0, 0)
    assert entry["backlog"]["bytes"] == queue["total"]["bytes"] > 0
    lines = [line.split() for line in printed(admin("queue")).splitlines()]
    assert lines[0] == ["PROJECT", "WAITING", "SIZE", "OLDEST", "DEAD"]
    assert [lines[1][:2], lines[2][:3]] == [["late", "2"], ["in", "all", "2"]]
    (late,) = [one for one in objects(admin("projects", "--json")) if one["name"] == "late"]
    assert (late["tunnel"], late["backlog"]["count"]) == (None, 2)
    assert "late" in printed(admin("projects"))
    assert admin("projects", "--limit", "1")[0] == 0


def test_the_only_relay_is_not_drained(admin: Admin) -> None:
    status, out, err = admin("drain", "relay-1")
    assert (status, out) == (ExitCode.USAGE, "")
    assert "No other relay takes tunnels" in err
    assert printed(admin("drain", "relay-1", "--undo")) == "relay-1 takes tunnels again.\n"
    assert admin("drain", "relay-9")[0] == ExitCode.NOT_FOUND
    for words in (["--undo", "--wait"], ["--timeout", "1"]):
        assert admin("drain", "relay-1", *words)[0] == ExitCode.USAGE


def test_refusals_end_with_their_status(server: Served, admin: Admin) -> None:
    assert admin("relays", "--token", "whk_rubbish")[0] == ExitCode.UNAUTHORIZED
    assert admin("relays", "--server", "http://127.0.0.1:9")[0] == ExitCode.UNREACHABLE
    assert admin("relays", "--server", server.auth)[0] == ExitCode.UNREACHABLE
    assert admin("tunnels", "--limit", "0")[0] == ExitCode.USAGE
    assert admin("kick", "..")[0] == ExitCode.USAGE


def test_a_table_is_harmless_and_aligned() -> None:
    lines = list(table(("NAME", "N"), [("a\x1b[2J", "1"), ("b", "100")], right=("N",)))
    assert lines == ["NAME        N", "a\\x1b[2J    1", "b         100"]
    assert [age(n) for n in (-1, 0.4, 59, 60, 3_600, 90_000)] == ["0s", "0s", "59s", "1m", "1h", "1d"]
