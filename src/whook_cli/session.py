"""The session of `whook connect`: one tunnel after the other, until it should stop or the server refuses.

Owns the decisions between tunnels: whether to reconnect, when, and what to say about it. Its tree is

    session
    ├─ the wish to stop, the closing of the output
    └─ tunnels, each a task: the current one, and those that are left for it and let their exchanges finish

It returns why it ended and raises nothing of its own, because an `Exit` raised among tasks would arrive in an
exception group. Must never print the token.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from whook.wire import GoAwayCode, Mode
from whook_cli.api import Grant, Unavailable, request_tunnel
from whook_cli.backoff import Backoff
from whook_cli.display import Display
from whook_cli.exits import Exit, ExitCode
from whook_cli.stop import Stop
from whook_cli.text import duration
from whook_cli.tunnel import LEAVE_TIME, Client, Ended, Handler, Tunnel, said
from whook_cli.wayback import WayBack

_FINAL: Final = {
    GoAwayCode.HELD: ExitCode.HELD,
    GoAwayCode.REPLACED: ExitCode.REPLACED,
    GoAwayCode.UNAUTHORIZED: ExitCode.UNAUTHORIZED,
    GoAwayCode.REVOKED: ExitCode.UNAUTHORIZED,
    GoAwayCode.VERSION: ExitCode.VERSION,
}
"""Refusals that no reconnecting mends."""
_FINAL_STATUS: Final = {
    401: ExitCode.UNAUTHORIZED,
    403: ExitCode.FORBIDDEN,
    409: ExitCode.HELD,
    426: ExitCode.VERSION,
}
"""The same, said in the WebSocket handshake."""
_NOT_FOR_THE_API: Final = {ExitCode.HELD, ExitCode.REPLACED, ExitCode.VERSION}
"""Refusals by a relay that the API would not change. What is wrong with a token, it knows better."""
_HINTS: Final = {
    ExitCode.HELD: "use --takeover to take it, or --watch to look on",
    ExitCode.VERSION: "update whook, here or there",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to connect, where, and as whom. `shown_target` is how the display names the far end."""

    server: str
    token: str
    project: str
    mode: Mode
    shown_target: str
    forward: str | None
    drain_timeout: float
    client: Client


class Session:
    """See the module."""

    def __init__(self, plan: Plan, handler: Handler, display: Display, stop: Stop) -> None:
        self._plan = plan
        self._handler = handler
        self._display = display
        self._stop = stop
        self._mode: Mode = plan.mode
        self._backoff = Backoff()
        self._way = WayBack()
        self._news = trio.Event()
        self._opening = trio.CancelScope()
        self._tunnels: set[Tunnel] = set()
        self._answered = False
        self._ever_up = False
        self._lost_at: float | None = None
        self._trouble = ""
        self._said_draining = False

    async def run(self) -> Exit | None:
        """Keep the project connected. Gives None if it was stopped, else why it cannot go on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_stop, name="stop")
            nursery.start_soon(self._watch_output, name="output")
            ending = await self._keep_connected(nursery)
            await self._drain()
            nursery.cancel_scope.cancel()
        return ending

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        self._opening.cancel(reason="stopping")
        self._news.set()

    async def _watch_output(self) -> None:
        await self._display.broken.wait()
        if not self._stop.begun:
            self._stop.begin("nobody reads the output")

    # -- from tunnel to tunnel ------------------------------------------------------------------------

    async def _keep_connected(self, nursery: trio.Nursery) -> Exit | None:
        current: Tunnel | None = None
        delay = 0.0
        while not self._stop.begun:
            fresh: Tunnel | Exit | None = None
            with trio.CancelScope() as self._opening:
                fresh = await self._open(nursery, delay)
            if not isinstance(fresh, Tunnel):
                return fresh
            if current is not None:
                leave = partial(current.leave, "replaced by a new tunnel", LEAVE_TIME, moved=True)
                nursery.start_soon(leave, name="leaving")
            self._announce(fresh)
            current = fresh
            ending = await self._live(current)
            if isinstance(ending, Exit):
                return ending
            self._backoff.ended(trio.current_time() - current.since)
            self._way.lost(told=current.ended is None or current.going is not None)
            if current.ended is None:
                delay = ending or 0.0
            else:
                current = None
                delay = self._backoff.delay(ending)
        return None

    async def _open(self, nursery: trio.Nursery, delay: float) -> Tunnel | Exit:
        """Open a tunnel: try after `delay` seconds, and again, until it is up or refused for good."""
        while True:
            await trio.sleep(delay)
            outcome = await self._try(nursery)
            if not isinstance(outcome, Unavailable):
                return outcome
            if not self._answered:
                return Exit(ExitCode.UNREACHABLE, str(outcome), hint="is it running? --server says where")
            delay = self._backoff.delay(outcome.retry_after)
            if str(outcome) != self._trouble:
                self._trouble = str(outcome)
                self._display.status(
                    "retrying", f"{outcome}; trying again", serious=True, reason=str(outcome)
                )

    async def _try(self, nursery: trio.Nursery) -> Tunnel | Exit | Unavailable:
        """Make one attempt: at the relay of the last tunnel if that may do, else at the API's word."""
        plan = self._plan
        known = self._way.grant() if self._mode != "watch" else None  # onlookers follow the holder
        if known is not None:
            tunnel = await self._connect(nursery, known)
            if tunnel.ended is None:
                return tunnel
            refusal = _refusal(tunnel.ended)
            if isinstance(refusal, Exit) and refusal.code in _NOT_FOR_THE_API:
                return refusal
            if not self._way.failed(tunnel.ended.failure):
                return refusal if isinstance(refusal, Unavailable) else Unavailable("", answered=True)
        try:
            grant = await request_tunnel(
                plan.server, plan.token, plan.project, plan.client.instance, watch=self._mode == "watch"
            )
        except Unavailable as unavailable:
            self._answered = self._answered or unavailable.answered
            self._way.unanswered()
            return unavailable
        except Exit as refusal:
            return refusal
        self._answered = True
        self._way.granted(grant)
        tunnel = await self._connect(nursery, grant)
        return tunnel if tunnel.ended is None else _refusal(tunnel.ended)

    async def _connect(self, nursery: trio.Nursery, grant: Grant) -> Tunnel:
        """Start a tunnel and wait until it is up, or has ended."""
        tunnel = Tunnel(
            grant, self._plan.client, self._handler, mode=self._mode, on_change=lambda: self._news.set()
        )
        self._tunnels.add(tunnel)
        nursery.start_soon(self._carry, tunnel, name="tunnel")
        while not tunnel.up and tunnel.ended is None:
            await self._wait_news()
        if tunnel.ended is None and self._mode == "takeover":
            self._mode = "exclusive"  # once is enough: whoever takes it over later is not to be fought
        return tunnel

    async def _carry(self, tunnel: Tunnel) -> None:
        try:
            await tunnel.run()
        finally:
            self._tunnels.discard(tunnel)

    async def _live(self, tunnel: Tunnel) -> Exit | float | None:
        """Wait until the tunnel must be replaced. Gives what the server asked to wait, or an `Exit`."""
        with trio.move_on_at(tunnel.renew_at):
            while not (self._stop.begun or tunnel.ended or tunnel.going):
                await self._wait_news()
        if self._stop.begun:
            return None
        if tunnel.ended is None and tunnel.going is None:
            return None  # time to renew the token
        ended = tunnel.ended or Ended("", tunnel.going)
        refusal = _refusal(ended)
        if isinstance(refusal, Exit):
            return refusal
        if tunnel.ended is not None:
            self._lost_at = trio.current_time()
            text = f"the tunnel is lost ({ended.reason}); reconnecting"
            self._display.status("lost", text, serious=True, reason=ended.reason)
        return refusal.retry_after

    async def _wait_news(self) -> None:
        await self._news.wait()
        self._news = trio.Event()

    # -- what is said, and the end --------------------------------------------------------------------

    def _announce(self, tunnel: Tunnel) -> None:
        plan, url = self._plan, tunnel.grant.public_url
        self._trouble = ""
        if not self._ever_up:
            self._ever_up = True
            self._display.status(
                "ready",
                f"{url} → {plan.shown_target}",
                project=plan.project,
                public_url=url,
                forward=plan.forward,
                tunnel=tunnel.tunnel_id,
                watch=plan.mode == "watch",
            )
        elif self._lost_at is not None:
            gone = trio.current_time() - self._lost_at
            self._display.status(
                "back",
                f"back after {duration(gone)}: {url}",
                public_url=url,
                seconds=round(gone, 3),
                tunnel=tunnel.tunnel_id,
            )
        else:
            self._display.status(
                "moved", f"moved to another tunnel: {url}", public_url=url, tunnel=tunnel.tunnel_id
            )
        self._lost_at = None
        if waiting := tunnel.grant.backlog:
            text = f"{waiting} buffered while you were away, delivering"
            self._display.status("backlog", text, count=waiting)

    def say_draining(self) -> None:
        """Say, once, how many exchanges are still to finish; nothing if there are none."""
        running = sum(tunnel.running for tunnel in self._tunnels)
        if running and not self._said_draining:
            self._said_draining = True
            what = "request" if running == 1 else "requests"
            text = f"waiting for {running} {what} to finish; once more (Ctrl-C) stops at once"
            self._display.status("draining", text, running=running)

    async def _drain(self) -> None:
        """Leave every tunnel: no new exchanges, those in progress finish within the drain timeout."""
        self.say_draining()
        left = [tunnel for tunnel in self._tunnels if tunnel.up]
        async with trio.open_nursery() as nursery:
            for tunnel in left:
                nursery.start_soon(tunnel.leave, "the client is stopping", self._plan.drain_timeout)


def _refusal(ended: Ended) -> Exit | Unavailable:
    """Say what an end means: for good, or worth another try."""
    code = ended.goaway.code if ended.goaway else 0
    final = _FINAL_STATUS.get(ended.status) or next((e for g, e in _FINAL.items() if g == code), None)
    if final is None:
        after = ended.goaway.retry_after if ended.goaway else ended.retry_after
        return Unavailable(ended.reason, answered=True, retry_after=after or None)
    reason = said(ended.goaway) if ended.goaway else ended.reason
    hint = _HINTS.get(final, "")
    return Exit(final, reason, hint="" if "--takeover" in reason else hint)
