"""How much is logged: changed while the process runs, the same events in every process, no secret ever."""

from __future__ import annotations

import io
import json
import logging
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis import logs
from whook.chassis.admin import admin_app
from whook.chassis.drain import Drain
from whook.chassis.readiness import Readiness
from whook.chassis.verbosity import VERBOSITY, Verbosity

pytestmark = pytest.mark.usefixtures("restored_logging")

LOCAL, ELSEWHERE = ("127.0.0.1", 5000), ("192.0.2.7", 5000)


def events(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


async def ask(method: str, path: str, body: bytes = b"", client: tuple[str, int] = LOCAL) -> tuple[int, str]:
    """Ask the admin port's application."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "client": client}
    await admin_app(Readiness(Drain(1)))(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


def test_a_level_changes_at_once_for_loggers_that_exist() -> None:
    stream = io.StringIO()
    logs.configure_logging("json", stream=stream)
    log = logs.get_logger("whook.test")
    bound = log.bind(tunnel="tun_1")
    bound.debug("no")
    VERBOSITY.level = "debug"
    log.debug("yes")
    bound.debug("yes, bound")
    logging.getLogger("library").info("yes, a library's")
    logging.getLogger("httpx").info("never: it has URLs in it")
    VERBOSITY.level = "error"
    bound.warning("no")
    logging.getLogger("library").warning("no")
    bound.error("yes, the last")
    assert events(stream) == ["yes", "yes, bound", "yes, a library's", "yes, the last"]


@given(event_id=st.text(min_size=1), share=st.floats(0, 1))
def test_two_processes_choose_the_same_events(event_id: str, share: float) -> None:
    conductor, relay = Verbosity(), Verbosity()
    conductor.share = relay.share = share
    assert conductor.chosen(event_id) == relay.chosen(event_id)
    if share == 0:
        assert not conductor.exchanges
        assert not conductor.chosen(event_id)
    if share == 1:
        assert conductor.chosen(event_id)
    relay.level = "debug"
    assert relay.chosen(event_id)


@given(lower=st.floats(0, 1), upper=st.floats(0, 1), event_id=st.text())
def test_a_larger_share_has_all_of_a_smaller_one(lower: float, upper: float, event_id: str) -> None:
    lower, upper = sorted((lower, upper))
    one, other = Verbosity(), Verbosity()
    one.share, other.share = lower, upper
    assert other.chosen(event_id) or not one.chosen(event_id)


def test_a_share_is_about_as_large_as_it_says() -> None:
    verbosity = Verbosity()
    verbosity.share = 0.1
    chosen = sum(verbosity.chosen(f"evt_{n:026}") for n in range(10_000))
    assert 800 < chosen < 1_200


async def test_the_admin_port_tells_and_changes_the_level() -> None:
    stream = io.StringIO()
    logs.configure_logging("json", stream=stream)
    assert await ask("GET", "/debug/log-level") == (200, "info\n")
    assert await ask("PUT", "/debug/log-level", b"debug\n") == (200, "debug\n")
    assert VERBOSITY.level == "debug"
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["event"], line["log_level"]) == ("logging was changed", "debug")
    assert await ask("PUT", "/debug/log-exchanges", b"0.25") == (200, "0.25\n")
    assert VERBOSITY.share == 0.25


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/debug/log-level", b"loud"),
        ("/debug/log-level", b""),
        ("/debug/log-level", b"\xff" * 500),
        ("/debug/log-exchanges", b"2"),
        ("/debug/log-exchanges", b"nan"),
        ("/debug/log-exchanges", b"much"),
    ],
)
async def test_what_makes_no_sense_changes_nothing(path: str, body: bytes) -> None:
    status, answer = await ask("PUT", path, body)
    assert (status, json.loads(answer)["type"]) == (422, "urn:whook:problem:invalid-request")
    assert (VERBOSITY.level, VERBOSITY.share) == ("info", 0.0)


async def test_nobody_elsewhere_changes_it() -> None:
    status, _ = await ask("PUT", "/debug/log-level", b"debug", ELSEWHERE)
    assert status == 403
    assert VERBOSITY.level == "info"
    assert (await ask("GET", "/debug/log-level", client=ELSEWHERE))[0] == 200
    assert (await ask("PUT", "/debug/log-level", b"debug", ("::1", 5000)))[0] == 200
    assert (await ask("DELETE", "/debug/log-level"))[0] == 405


@given(
    secret=st.text(min_size=logs.SHORTEST_SECRET).filter(lambda secret: "*" not in secret),
    before=st.text(),
    after=st.text(),
)
def test_a_secret_is_in_no_line_and_the_line_stays_json(secret: str, before: str, after: str) -> None:
    logs._hidden.clear()
    stream = io.StringIO()
    logs.configure_logging("json", stream=stream)
    logs.hide([secret])
    text = f"{before}{secret}{after}"
    logs.get_logger("whook.test").info("failed", error=text, inner={"list": [text, b"bytes"]})
    logging.getLogger("library").warning("a library says %s", text)
    for line in stream.getvalue().split("\n")[:-1]:
        said = json.loads(line)
        assert secret not in said.get("error", "") + said["event"].removeprefix("a library says ")


def test_the_journal_gets_the_priority_of_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stream, os.fdopen(read, encoding="utf-8") as reader:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        logs.configure_logging(stream=stream)
        logs.get_logger("whook.test").warning("careful")
        logs.get_logger("whook.test").info("fine")
        logging.getLogger("library").error("broken")
        stream.close()
        lines = reader.read().splitlines()
    assert [line[:3] for line in lines] == ["<4>", "<6>", "<3>"]
    assert [json.loads(line[3:])["event"] for line in lines] == ["careful", "fine", "broken"]
