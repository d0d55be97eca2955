"""`whook events` as a process, against the real API over a real socket and the real stores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.events_rig import EventsRig, open_events_rig
from tests.support.history import answered, delivered, news, stored_event
from tests.support.origin import Origin, ok, reply, response
from tests.support.whook_process import clean_environment
from whook.backplane.ports import Record, StoredEvent
from whook.chassis.ids import new_id
from whook_cli.exits import ExitCode

T0 = 1_790_000_000.0


class Ran:
    """One command that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.raw = done.stdout or b""
        self.out = self.raw.decode(errors="replace")
        self.err = done.stderr.decode()

    def ok(self) -> str:
        assert (self.code, self.err) == (0, ""), self.err
        return self.out


def framed(body: bytes) -> list[tuple[bytes, bytes]]:
    """Give the head of a request with this body."""
    return [(b"Host", b"shop.example"), (b"X-Sig", b"\xe9=1"), (b"Content-Length", b"%d" % len(body))]


class House:
    """The API with its stores, and the client beside it."""

    def __init__(self, rig: EventsRig, home: Path) -> None:
        self.rig = rig
        self.home = home

    async def events(self, *words: str, who: str = "ann", stdout: int | None = None, **env: str) -> Ran:
        """Run `whook events …`."""
        environment = clean_environment(self.home) | {
            "WHOOK_SERVER": self.rig.url.removesuffix("/v1"),
            "WHOOK_TOKEN": self.rig.tokens.get(who, who),
            **env,
        }
        command = [sys.executable, "-m", "whook_cli", "events", *words]
        with trio.fail_after(2 * DEADLINE):
            out: dict[str, Any] = {"capture_stdout": True} if stdout is None else {"stdout": stdout}
            done = await trio.run_process(
                command, env=environment, cwd=self.home, capture_stderr=True, check=False, **out
            )
        return Ran(done)

    def shop_event(self, at: float = T0, **fields: Any) -> StoredEvent:
        if fields.get("body", b"") is not None:
            fields.setdefault("headers", framed(fields.setdefault("body", b"\x00\xff")))
        return stored_event(at, self.rig.shop.id, project="shop", **fields)

    async def record(self, *records: Record) -> None:
        await self.rig.history.record(list(records))

    async def answered(self, count: int, **fields: Any) -> list[StoredEvent]:
        events = [self.shop_event(T0 + n, **({"target": b"/%d" % n} | fields)) for n in range(count)]
        await self.record(*(news(event, "answered", delivered(event)) for event in events))
        return events


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House, None]:
    async with open_events_rig(tmp_path) as rig:
        yield House(rig, tmp_path)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def since(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat()


async def test_list(house: House) -> None:
    first, second = await house.answered(2)
    bad = house.shop_event(T0 + 5, target=b"/\x1b[2J", body=b"needle")
    await house.record(news(bad, "dead", delivered(bad, status=0)))
    lines = (await house.events("list", "shop")).ok().splitlines()
    assert [re.findall(r"evt_\w+", line)[0] for line in lines] == [bad.id, second.id, first.id]
    assert lines[0].endswith("POST   /\\x1b[2J  (tunnel-lost)")
    assert " dead " in lines[0]
    assert " answered  200 " in lines[1]

    lines = (await house.events("list", "--json", "--limit", "1", WHOOK_PROJECT="shop")).ok().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [bad.id]
    for options in (["--status", "failed"], ["--grep", "NEEDLE"], ["--since", since(2)]):
        assert (await house.events("list", "shop", *options)).ok().count("evt_") == 1
    assert (await house.events("list", "shop", "--since", "2h")).ok() == ""


async def test_list_is_as_long_as_wanted(house: House) -> None:
    await house.answered(230)
    assert (await house.events("list", "shop", "--limit", "215")).ok().count("evt_") == 215


async def test_show(house: House) -> None:
    event = house.shop_event(
        headers=[(b"Host", b"h"), (b"Content-Type", b"application/json"), (b"X-Evil", b"\x1b]0;x\x07")],
        body=b'{"a":"\xe6\xbc\xa2\\u001b"}',
    )
    await house.record(news(event, "answered", delivered(event, status=201)))
    text = (await house.events("show", event.id)).ok()
    assert all(char.isprintable() or char == "\n" for char in text)
    for part in (
        "POST /hook?a=%20b HTTP/1.1",
        "> X-Evil: \\x1b]0;x\\x07",
        '"a": "漢\\u001b"',
        "< 201 OK",
        "delivery 1",
    ):
        assert part in text


async def test_show_raw_and_body_are_exact(house: House) -> None:
    (event,) = await house.answered(1)
    assert (await house.events("show", event.id, "--raw")).raw == (
        b"POST /0 HTTP/1.1\r\nHost: shop.example\r\nX-Sig: \xe9=1\r\nContent-Length: 2\r\n\r\n\0\xff"
    )
    assert (await house.events("show", event.id, "--body")).raw == event.body


async def test_a_terminal_gets_harmless_text_where_a_pipe_gets_the_bytes(house: House) -> None:
    evil = house.shop_event(body=b"\x1b[2J\xe6\xbc\xa2\xff\n", target=b"/\x1b[1m")
    await house.record(news(evil, "answered", delivered(evil)))
    for words in (
        ["show", evil.id, "--raw"],
        ["show", evil.id, "--body"],
        ["show", evil.id],
        ["list", "shop"],
    ):
        near, far = os.openpty()
        with os.fdopen(near, "rb", buffering=0) as terminal:
            ran = await house.events(*words, stdout=far)
            os.close(far)
            said = await trio.to_thread.run_sync(terminal.read, 65_536)
        assert (ran.code, ran.err) == (0, "")
        text = said.decode().replace("\r\n", "\n")
        assert all(char.isprintable() or char == "\n" for char in text), text
        assert "\\x1b[" in text


async def test_what_is_refused_is_one_line_and_a_status(house: House) -> None:
    (event,) = await house.answered(1)
    unkept = house.shop_event(T0 + 1, body=None, body_size=9)
    await house.record(news(unkept, "answered"))
    reader = await house.rig.token("ann", "connect")
    for words, who, code in (
        (["show", new_id("evt")], "ann", ExitCode.NOT_FOUND),
        (["show", "nonsense"], "ann", ExitCode.NOT_FOUND),
        (["show", unkept.id, "--body"], "ann", ExitCode.NOT_FOUND),
        (["show", event.id], "eve", ExitCode.NOT_FOUND),
        (["list", "shop"], "eve", ExitCode.NOT_FOUND),
        (["list", "shop"], reader, ExitCode.FORBIDDEN),
        (["list", "shop"], "whk_" + "a" * 49, ExitCode.UNAUTHORIZED),
        (["replay", event.id], "vic", ExitCode.FORBIDDEN),
    ):
        ran = await house.events(*words, who=who)
        assert (ran.code, ran.out) == (code, ""), (words, ran.err)
        assert ran.err.startswith("whook: ")
        assert ran.err.count("\n") == 1
    ran = await house.events("list", "shop", WHOOK_SERVER="http://127.0.0.1:1")
    assert (ran.code, ran.err.count("\n")) == (ExitCode.UNREACHABLE, 1)


async def test_replay_by_the_server(house: House) -> None:
    events = await house.answered(4)
    ids = [event.id for event in events]
    assert (await house.events("replay", ids[2], ids[0])).ok() == "Queued 2 events for delivery, in order.\n"
    told = (await house.events("replay", "--project", "shop", "--since", since(1))).ok()
    assert told == "Queued 3 events for delivery, in order.\n"
    entries = await house.rig.queued()
    assert [entry.event.id for entry in entries] == [ids[2], ids[0], *ids[1:]]
    assert all(entry.origin == "replay" for entry in entries)


async def test_replay_says_what_it_left_out(house: House) -> None:
    (event,) = await house.answered(1)
    unkept = house.shop_event(T0 + 1, body=None, body_size=9)
    await house.record(news(unkept, "answered"))
    ran = await house.events("replay", event.id, unkept.id)
    assert (ran.code, ran.out) == (ExitCode.INCOMPLETE, "Queued 1 event for delivery, in order.\n")
    assert ran.err == f"whook: {unkept.id} is not replayed: its body was not kept\nwhook: 1 not replayed\n"
    await house.rig.limit(max_count=4)  # of which replays may take half
    ran = await house.events("replay", event.id, event.id, event.id)
    assert ran.code == ExitCode.INCOMPLETE
    assert ran.err == "whook: stopped after 1: as much waits as may: deliver that first\n"


async def test_replay_at_the_pace_in_which_they_came(house: House) -> None:
    events = [house.shop_event(T0 + n * 0.3) for n in range(3)]
    await house.record(*(news(event, "answered") for event in events))
    with pytest.MonkeyPatch.context() as patch:
        times: list[float] = []
        append = house.rig.queue.append

        async def noted(*args: Any, **more: Any) -> None:
            times.append(trio.current_time())
            await append(*args, **more)

        patch.setattr(house.rig.queue, "append", noted)
        await house.events("replay", "--project", "shop", "--until", since(9), "--speed", "1x")
    assert [entry.event.id for entry in await house.rig.queued()] == [event.id for event in events]
    assert times[2] - times[0] >= 0.55


async def test_what_waits_already_is_left_out_of_a_range(house: House) -> None:
    (event,) = await house.answered(1)
    waits = [house.shop_event(T0 + 1 + n) for n in range(2)]
    await house.record(*(news(one, "buffered") for one in waits))
    ran = await house.events("replay", "--project", "shop", "--until", since(9))
    assert (ran.code, ran.out) == (0, "Queued 1 event for delivery, in order.\n")
    assert ran.err == "whook: 2 left out, which wait to be delivered already\n"
    assert [entry.event.id for entry in await house.rig.queued()] == [event.id]


async def test_a_replay_that_is_stopped_says_how_far_it_came(house: House) -> None:
    events = [house.shop_event(T0), house.shop_event(T0 + 3_600)]
    await house.record(*(news(event, "answered") for event in events))
    environment = clean_environment(house.home) | {
        "WHOOK_SERVER": house.rig.url.removesuffix("/v1"),
        "WHOOK_TOKEN": house.rig.tokens["ann"],
    }
    words = ["replay", "--project", "shop", "--until", since(9_999), "--speed", "1x"]
    with trio.fail_after(2 * DEADLINE):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "whook_cli", "events", *words],
            env=environment,
            cwd=house.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        while (await house.rig.queue.backlog(house.rig.shop.id)).count == 0:
            await trio.testing.wait_all_tasks_blocked(0.05)
        process.terminate()
        assert await process.wait() == ExitCode.INCOMPLETE
        assert bytes(await process.stderr.receive_some()) == b"whook: stopped after 1\n"


async def test_replay_to_a_url_is_byte_exact(house: House, origin: Origin) -> None:
    plain = house.shop_event(
        target=b"/a/../b?%20",
        headers=[(b"hOsT", b"h"), (b"Connection", b"close"), (b"X-A", b"\xe9"), (b"Content-Length", b"3")],
        body=b"\0\xff\n",
    )
    large = house.shop_event(
        T0 + 1, headers=[(b"Host", b"h"), (b"Content-Length", b"500000")], body=bytes(range(250)) * 2_000
    )
    chunked = house.shop_event(
        T0 + 2, headers=[(b"Host", b"h"), (b"Transfer-Encoding", b"chunked")], body=b"abc",
        trailers=[(b"X-Sum", b"1")], method=b"PUT",
    )  # fmt: skip
    events = [plain, large, chunked]
    await house.record(*(news(event, "answered") for event in events))
    origin.script(ok, reply(response(b"", status=b"500 Oh")), ok)
    ran = await house.events("replay", "--project", "shop", "--until", since(9), "--to", f"{origin.url}/base")
    await trio.to_thread.run_sync(origin.check)
    lines = ran.ok().splitlines()
    assert [re.findall(r"  (\d{3})  ", line) for line in lines] == [["200"], ["500"], ["200"], []]
    assert lines[-1] == f"Sent 3 events to {origin.url}/base."
    first, second, third = origin.received
    assert first.start_line == b"POST /base/a/../b?%20 HTTP/1.1"
    assert first.lines == [
        b"hOsT: h",
        b"X-A: \xe9",
        b"Content-Length: 3",
        b"Whook-Event-Id: " + plain.id.encode(),
        b"Whook-Replay: 1",
    ]
    assert [message.body for message in origin.received] == [event.body for event in events]
    assert second.value(b"Whook-Event-Id") == large.id.encode()
    assert (third.start_line, third.trailers) == (b"PUT /base/hook?a=%20b HTTP/1.1", (b"X-Sum: 1",))


async def test_replay_to_a_url_where_nobody_is(house: House) -> None:
    first, second = await house.answered(2)
    ran = await house.events("replay", first.id, second.id, "--to", "1")
    assert ran.code == ExitCode.INCOMPLETE
    assert ran.out.count("cannot reach http://localhost:1: connection refused") == 2
    assert "Sent 0 events" in ran.out
    assert ran.err == "whook: 2 not replayed\n"


async def test_export(house: House) -> None:
    events = await house.answered(2)
    ids = [event.id for event in events]
    raws = [(await house.events("show", event_id, "--raw")).raw for event_id in ids]
    assert (await house.events("export", *ids, "--format", "raw")).raw == b"".join(raws)
    har = json.loads((await house.events("export", *ids, "--format", "har")).ok())
    assert [entry["_event"] for entry in har["log"]["entries"]] == ids
    script = house.home / "again.sh"
    ran = await house.events("export", *ids, "--to", "9999", "--output", str(script))
    assert ran.ok() == ""
    assert script.read_text().count("'http://localhost:9999/'") == 2
    ran = await house.events("export", ids[0], "--output", str(house.home / "no" / "where"))
    assert (ran.code, ran.err.count("\n")) == (ExitCode.USAGE, 1)


async def test_a_reader_that_leaves_is_no_failure(house: House) -> None:
    await house.answered(200)
    command = (
        f"'{sys.executable}' -m whook_cli events list shop --limit 200 | head -1; echo ${{PIPESTATUS[0]}}"
    )
    environment = clean_environment(house.home) | {
        "WHOOK_SERVER": house.rig.url.removesuffix("/v1"),
        "WHOOK_TOKEN": house.rig.tokens["ann"],
    }
    done = await trio.run_process(
        ["bash", "-c", command], env=environment, capture_stdout=True, capture_stderr=True
    )
    line, status = done.stdout.decode().splitlines()
    assert "evt_" in line
    assert (status, done.stderr) == ("0", b"")


async def test_tail(house: House) -> None:
    """It begins with what is new, leaves out what does not match, and ends in order when it is stopped."""
    await house.answered(1)
    environment = clean_environment(house.home) | {
        "WHOOK_SERVER": house.rig.url.removesuffix("/v1"),
        "WHOOK_TOKEN": house.rig.tokens["vic"],
    }
    command = [sys.executable, "-m", "whook_cli", "events", "tail", "shop", "--json", "--grep", "wanted"]
    with trio.fail_after(2 * DEADLINE):
        process = await trio.lowlevel.open_process(
            command, env=environment, cwd=house.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        while b"waiting for events of shop" not in said:
            said += await process.stderr.receive_some()
        other, wanted = (answered(T0, house.rig.shop.id, body=body) for body in (b"no", b"Wanted"))
        await house.record(other, wanted)
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
        assert json.loads(line)["id"] == wanted.event_id
        process.terminate()
        assert await process.wait() == 0
