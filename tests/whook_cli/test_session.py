"""Sessions against a real API and real WebSockets: connecting, losing, moving, being refused, stopping."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.far_end import Accepted, FarEnd, open_far_end, read, request
from tests.support.forwarding import silent_display
from tests.support.origin import Origin, Turn, reply, response
from whook.link import Exchange, ExchangeReset
from whook.wire import GoAway, GoAwayCode, Mode, ResetCode
from whook_cli import tunnel
from whook_cli.exits import Exit, ExitCode
from whook_cli.handler import Handler
from whook_cli.records import Record, StatusRecord
from whook_cli.respond import Responder
from whook_cli.session import Plan, Session
from whook_cli.stop import Stop
from whook_cli.tunnel import Client

PUBLIC = "http://shop.localhost:8080"


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for the far end to close a tunnel that is left: only a relay does that."""
    monkeypatch.setattr(tunnel, "FINISH_TIME", 0.25)


class Conversation:
    """A running session, and both ends of what it does."""

    def __init__(self, far_end: FarEnd, api: Origin) -> None:
        self.far_end = far_end
        self.api = api
        self.stop = Stop()
        self.shown: list[Record] = []
        self.ended = trio.Event()
        self.ending: Exit | None = None
        self.expires_at = "2099-01-01T00:00:00Z"
        self._said = trio.Event()

    def said(self) -> None:
        """Wake whoever waits for something to be said."""
        self._said.set()

    def grant(self, turn: Turn) -> None:
        """Answer `POST /v1/tunnels` with a tunnel to the far end."""
        turn.read()
        body = {
            "websocket_url": self.far_end.url,
            "token": f"jwt-{turn.number}",
            "project_id": "prj_1",
            "public_url": PUBLIC,
            "expires_at": self.expires_at,
        }
        turn.send(response(json.dumps(body).encode()))

    def plan(self, mode: Mode, drain_timeout: float) -> Plan:
        client = Client("whook/test", "cli_1", "ada@laptop", 16)
        return Plan(self.api.url, "whk_secret", "shop", mode, "here", None, drain_timeout, client)

    @property
    def events(self) -> list[str]:
        """Names of what was said, in order."""
        return [r.event for r in self.shown if isinstance(r, StatusRecord)]

    async def wait_event(self, name: str) -> StatusRecord:
        """Wait until something of this name has been said."""
        with trio.fail_after(DEADLINE):
            while True:
                for record in self.shown:
                    if isinstance(record, StatusRecord) and record.event == name:
                        return record
                self._said = trio.Event()
                await self._said.wait()

    async def wait_ended(self) -> Exit | None:
        """Wait until the session has ended; gives why."""
        with trio.fail_after(DEADLINE):
            await self.ended.wait()
        return self.ending


@asynccontextmanager
async def session(
    *,
    mode: Mode = "exclusive",
    drain_timeout: float = DEADLINE,
    handler: object = None,
    refuse: GoAway | None = None,
) -> AsyncGenerator[Conversation]:
    with Origin() as api:
        async with open_far_end() as far_end:
            talk = Conversation(far_end, api)
            far_end.refuse = refuse
            api._otherwise = talk.grant
            display = silent_display(talk.shown, talk.said)
            handle = handler or Handler(display, Responder(), verbose=False)

            async def run() -> None:
                plan = talk.plan(mode, drain_timeout)
                talk.ending = await Session(plan, handle, display, talk.stop).run()  # type: ignore[arg-type]
                talk.ended.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                yield talk
                nursery.cancel_scope.cancel()


async def answers(tunnel: Accepted) -> int:
    return (await read(tunnel.open(request(), b"x"))).status


async def test_it_connects_answers_and_stops() -> None:
    async with session() as talk:
        tunnel = await talk.far_end.wait_tunnel(0)
        assert tunnel.headers["authorization"] == "Bearer jwt-1"
        hello = tunnel.hello
        assert (hello.peer, hello.instance, hello.holder, hello.mode, hello.max_exchanges) == (
            "cli", "cli_1", "ada@laptop", "exclusive", 16,
        )  # fmt: skip
        assert await answers(tunnel) == 200
        ready = await talk.wait_event("ready")
        assert ready.values == {
            "project": "shop",
            "public_url": PUBLIC,
            "forward": None,
            "tunnel": "tun_1",
            "watch": False,
        }
        assert "whk_secret" not in repr(talk.shown)
        talk.stop.begin("test")
        assert await talk.wait_ended() is None
        await tunnel.closed.wait()
        assert tunnel.opener.goaway is not None
        assert tunnel.opener.goaway.code == GoAwayCode.DRAIN
    assert json.loads(talk.api.received[0].body) == {"project": "shop", "instance": "cli_1", "watch": False}
    assert talk.events == ["ready"]


async def test_it_comes_back_with_the_same_instance() -> None:
    async with session(mode="takeover") as talk:
        first = await talk.far_end.wait_tunnel(0)
        first.opener.link.close("the network is gone")
        second = await talk.far_end.wait_tunnel(1)
        await talk.wait_event("back")
        assert (first.hello.mode, second.hello.mode) == ("takeover", "exclusive")
        assert first.hello.instance == second.hello.instance
        assert second.headers["authorization"] == "Bearer jwt-1"  # still good, and good for this relay
        assert await answers(second) == 200
    assert talk.events == ["ready", "lost", "back"]
    assert len(talk.api.received) == 1


@pytest.mark.parametrize("status", [401, 403, 503])
async def test_a_relay_that_no_longer_takes_the_token_leads_to_the_api(status: int) -> None:
    """The token may have been withdrawn, or the relay be full: the API knows, or says so itself."""
    async with session() as talk:
        first = await talk.far_end.wait_tunnel(0)
        talk.far_end.reject = (status, [], b"{}")
        first.opener.link.close("the network is gone")
        await talk.far_end.wait_handshakes(2)
        talk.far_end.reject = None
        second = await talk.far_end.wait_tunnel(1)
        assert second.headers["authorization"] != "Bearer jwt-1"
        await talk.wait_event("back")


async def test_a_busy_relay_is_waited_for_without_troubling_the_api() -> None:
    async with session() as talk:
        first = await talk.far_end.wait_tunnel(0)
        busy = b'{"type":"urn:whook:problem:busy"}'
        talk.far_end.reject = (503, [(b"Retry-After", b"0")], busy)
        first.opener.link.close("the network is gone")
        await talk.far_end.wait_handshakes(3)
        talk.far_end.reject = None
        second = await talk.far_end.wait_tunnel(1)
        assert second.headers["authorization"] == "Bearer jwt-1"
        await talk.wait_event("back")
        assert len(talk.api.received) == 1


async def test_a_project_that_another_client_took_meanwhile_is_not_fought_for() -> None:
    async with session() as talk:
        first = await talk.far_end.wait_tunnel(0)
        talk.far_end.refuse = GoAway(GoAwayCode.HELD, "shop is held by bob", 0.0)
        first.opener.link.close("the network is gone")
        ending = await talk.wait_ended()
        assert ending is not None
        assert ending.code == ExitCode.HELD
        assert len(talk.api.received) == 1


async def test_an_onlooker_asks_the_api_where_the_project_is_now() -> None:
    async with session(mode="watch") as talk:
        first = await talk.far_end.wait_tunnel(0)
        first.opener.link.close("the network is gone")
        second = await talk.far_end.wait_tunnel(1)
        assert second.headers["authorization"] == "Bearer jwt-2"


@pytest.mark.parametrize("code", [GoAwayCode.DRAIN, GoAwayCode.MOVED, GoAwayCode.EXPIRED, 99])
async def test_it_opens_the_new_tunnel_before_it_leaves_the_old_one(code: int) -> None:
    held = trio.Event()

    async def slow(exchange: Exchange) -> None:
        if exchange.request.event_id == "held":
            await held.wait()
        await Handler(silent_display([]), Responder(), verbose=False)(exchange)

    async with session(handler=slow) as talk:
        old = await talk.far_end.wait_tunnel(0)
        running = old.open(request(event_id="held"))
        assert await answers(old) == 200
        old.goaway(code, "moving on")
        new = await talk.far_end.wait_tunnel(1)
        assert not old.closed.is_set()
        assert await answers(new) == 200
        with trio.fail_after(DEADLINE):
            await old.left.wait()  # it says so, and still lets the exchange finish
        held.set()
        assert (await read(running)).status == 200
        with trio.fail_after(DEADLINE):
            await old.closed.wait()
        await talk.wait_event("moved")
    assert "lost" not in talk.events


async def test_a_tunnel_is_renewed_before_its_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    due = property(lambda tunnel: tunnel.since if tunnel.grant.token == "jwt-1" else math.inf)
    monkeypatch.setattr("whook_cli.tunnel.Tunnel.renew_at", due)
    async with session() as talk:
        first = await talk.far_end.wait_tunnel(0)
        await talk.far_end.wait_tunnel(1)
        with trio.fail_after(DEADLINE):
            await first.closed.wait()
    assert "lost" not in talk.events


@pytest.mark.parametrize(
    ("code", "exit_code", "hint"),
    [
        (GoAwayCode.HELD, ExitCode.HELD, "--takeover"),
        (GoAwayCode.UNAUTHORIZED, ExitCode.UNAUTHORIZED, ""),
        (GoAwayCode.REVOKED, ExitCode.UNAUTHORIZED, ""),
        (GoAwayCode.VERSION, ExitCode.VERSION, "update whook"),
    ],
)
async def test_refusals_for_good(code: GoAwayCode, exit_code: ExitCode, hint: str) -> None:
    async with session(refuse=GoAway(code, "held by bob@desk\x1b[0m")) as talk:
        ending = await talk.wait_ended()
    assert ending is not None
    assert ending.code == exit_code
    assert ending.message == "held by bob@desk\\x1b[0m"
    assert hint in ending.hint
    assert talk.far_end.handshakes == 1


async def test_being_replaced_ends_it() -> None:
    async with session() as talk:
        tunnel = await talk.far_end.wait_tunnel(0)
        tunnel.goaway(GoAwayCode.REPLACED, "bob@desk took shop over")
        ending = await talk.wait_ended()
    assert ending is not None
    assert (ending.code, ending.message) == (ExitCode.REPLACED, "bob@desk took shop over")


@pytest.mark.parametrize(
    ("status", "code"), [(401, ExitCode.UNAUTHORIZED), (403, ExitCode.FORBIDDEN), (426, ExitCode.VERSION)]
)
async def test_refusals_in_the_handshake(status: int, code: ExitCode) -> None:
    async with session() as talk:
        talk.far_end.reject = (status, [], b"")
        ending = await talk.wait_ended()
    assert ending is not None
    assert ending.code == code


@pytest.mark.parametrize("how", ["reject", "refuse", "api"])
async def test_what_passes_by_itself_is_tried_again(how: str) -> None:
    async with session(
        refuse=GoAway(GoAwayCode.FULL, "relay is full", 0.01) if how == "refuse" else None
    ) as talk:
        if how == "reject":
            talk.far_end.reject = (503, [(b"Retry-After", b"0")], b"")
        elif how == "api":
            talk.api.script(reply(response(b"", status=b"503 Service Unavailable")))
        if how != "api":
            await talk.far_end.wait_handshakes(2)
            talk.far_end.reject = talk.far_end.refuse = None
        assert await answers(await talk.far_end.wait_tunnel(0)) == 200
        await talk.wait_event("ready")
    assert talk.events == ["retrying", "ready"]  # the same trouble is said once


async def test_a_server_that_was_never_reached_ends_it() -> None:
    with Origin() as closed:
        pass
    stop = Stop()
    client = Client("whook/test", "cli_1", "ada@laptop", 16)
    plan = Plan(closed.url, "t", "shop", "exclusive", "", None, 1.0, client)
    display = silent_display([])
    ending = await Session(plan, Handler(display, Responder(), verbose=False), display, stop).run()
    assert ending is not None
    assert ending.code == ExitCode.UNREACHABLE
    assert "connection refused" in ending.message


async def test_stopping_lets_requests_finish_and_takes_no_new_ones() -> None:
    started, held = trio.Event(), trio.Event()

    async def slow(exchange: Exchange) -> None:
        started.set()
        await held.wait()
        await Handler(silent_display([]), Responder(), verbose=False)(exchange)

    async with session(handler=slow) as talk:
        tunnel = await talk.far_end.wait_tunnel(0)
        running = tunnel.open(request())
        with trio.fail_after(DEADLINE):
            await started.wait()
        talk.stop.begin("test")
        with trio.fail_after(DEADLINE):
            await tunnel.left.wait()
        assert (await talk.wait_event("draining")).values == {"running": 1}
        # What the relay sent before it knew: its own end would refuse by now.
        stream, frame = tunnel.opener.endpoint.open(b"t", request(), end=True)
        late = Exchange(tunnel.opener, stream, request(), request_ended=True)
        tunnel.opener.link.send(frame)
        with pytest.raises(ExchangeReset) as caught:
            await read(late)
        assert caught.value.code == ResetCode.DRAINING
        held.set()
        assert (await read(running)).status == 200
        assert await talk.wait_ended() is None


async def test_stopping_ends_in_bounded_time() -> None:
    started = trio.Event()

    async def forever(exchange: Exchange) -> None:
        started.set()
        await trio.sleep_forever()

    async with session(handler=forever, drain_timeout=0.05) as talk:
        tunnel = await talk.far_end.wait_tunnel(0)
        running = tunnel.open(request())
        with trio.fail_after(DEADLINE):
            await started.wait()
        talk.stop.begin("test")
        assert await talk.wait_ended() is None
        with pytest.raises(ExchangeReset):
            await read(running)


async def test_stopping_while_it_tries_to_connect() -> None:
    async with session(refuse=GoAway(GoAwayCode.FULL, "full", 300.0)) as talk:
        await talk.wait_event("retrying")
        talk.stop.begin("test")
        assert await talk.wait_ended() is None


async def test_what_the_relay_sent_before_it_heard_of_the_move_is_answered() -> None:
    """It is the relay that closes the old tunnel: until then nothing that comes on it is lost."""
    async with session() as talk:
        old = await talk.far_end.wait_tunnel(0)
        old.goaway(GoAwayCode.DRAIN, "moving on")
        new = await talk.far_end.wait_tunnel(1)
        with trio.fail_after(DEADLINE):
            await old.left.wait()
        stream, frame = old.opener.endpoint.open(b"t", request(), end=True)
        late = Exchange(old.opener, stream, request(), request_ended=True)
        old.opener.link.send(frame)
        assert (await read(late)).status == 200
        assert not old.closed.is_set()
        old.opener.link.finish("the client left")
        with trio.fail_after(DEADLINE):
            await old.closed.wait()
        assert await answers(new) == 200
