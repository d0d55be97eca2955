"""One tunnel: a WebSocket to a relay, introduced, answering exchanges until it ends.

Owns the connection from dialling to closing. `session` opens one after the other, for a moment two of them,
and reads from `Tunnel` what became of each. Must never decide about reconnecting.
"""

import getpass
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import trio

from whook.link import (
    Answerer,
    Exchange,
    HandshakeRefused,
    Heartbeat,
    Link,
    LinkClosed,
    LinkRefused,
    LinkUnanswered,
)
from whook.link.websocket import connect_websocket
from whook.wire import PROTOCOL_VERSION, GoAway, Hello, Mode, ProtocolError, encode_hello
from whook_cli.api import Grant, parse_retry_after
from whook_cli.reasons import explain
from whook_cli.text import printable, shorten
from whook_cli.tls import server_context
from whook_cli.wayback import Failure, failure_of

DIAL_TIMEOUT: Final = 10.0
"""Seconds for TCP, TLS and the WebSocket handshake."""
HELLO_TIMEOUT: Final = 10.0
"""Seconds for the introduction."""
HEARTBEAT: Final = 20.0
"""Seconds between signs of life, unless the relay asks for another interval."""
LEAVE_TIME: Final = 120.0
"""Seconds that exchanges on a tunnel that was left for another one may take to finish."""
FINISH_TIME: Final = 2.0
"""Seconds that a relay which does not answer may hold up the closing of a tunnel."""
RENEW_BEFORE: Final = 60.0
"""Seconds before its token expires that a tunnel is replaced."""

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Client:
    """Who connects, the same for every tunnel of a session."""

    agent: str
    instance: str
    holder: str
    max_exchanges: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Why there is no tunnel, or no more: a GOAWAY of the relay, or the loss of the connection."""

    reason: str
    goaway: GoAway | None = None
    status: int = 0
    retry_after: float | None = None
    failure: Failure = Failure.REFUSED
    """What it means for another attempt by the same grant."""


def holder_name() -> str:
    """How a person would name this client: user and machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "somebody"
    return shorten(printable(f"{user}@{socket.gethostname()}"), 100)


class Tunnel:
    """One tunnel.

    Attributes:
        up: the relay has taken the tunnel.
        ended: why it is over, None while it is not.
        going: the relay's announcement that it takes no new exchanges here.
        since: trio time at which it was taken.
        tunnel_id: what relay and conductor call it in their logs; empty until it is up.
    """

    def __init__(
        self, grant: Grant, client: Client, handler: Handler, *, mode: Mode, on_change: Callable[[], None]
    ) -> None:
        self.grant = grant
        self.up = False
        self.ended: Ended | None = None
        self.going: GoAway | None = None
        self.since = 0.0
        self.tunnel_id = ""
        self._on_change = on_change
        self._over = trio.Event()
        self._client = client
        self._handler = handler
        self._mode: Mode = mode
        self._answerer: Answerer | None = None

    @property
    def renew_at(self) -> float:
        """Trio time at which it is to be replaced because its token expires; infinity if that is unknown."""
        try:
            expires = datetime.fromisoformat(self.grant.expires_at)
        except ValueError:
            return float("inf")
        left = (expires - datetime.now(expires.tzinfo or UTC)).total_seconds()
        # A clock that is wrong by hours must not make the tunnel flap; the relay's own GOAWAY then does it.
        return trio.current_time() + left - RENEW_BEFORE if left > 2 * RENEW_BEFORE else float("inf")

    @property
    def running(self) -> int:
        """Exchanges in progress."""
        return self._answerer.running if self._answerer else 0

    async def run(self) -> None:
        """Dial, introduce, answer until the end. Raises nothing: `ended` says what happened."""
        url, token = self.grant.websocket_url, self.grant.token
        context = server_context() if url.startswith("wss:") else None
        try:
            async with connect_websocket(
                url,
                headers=[(b"Authorization", f"Bearer {token}".encode("ascii"))],
                timeout=DIAL_TIMEOUT,
                ssl_context=context,
            ) as transport:
                self.ended = await self._talk(Link(transport, name="tunnel"))
        except HandshakeRefused as error:
            after = parse_retry_after(error.headers.get("retry-after"))
            self.ended = Ended(
                f"{url} answered {error.status}",
                status=error.status,
                retry_after=after,
                failure=failure_of(error.status, error.body),
            )
        except LinkUnanswered as error:
            self.ended = self.ended or Ended(explain(error), failure=Failure.SILENT)
        except LinkClosed as error:
            self.ended = self.ended or Ended(f"cannot reach {url}: {explain(error)}")
        finally:
            self.ended = self.ended or Ended("stopped")
            self._over.set()
            self._on_change()

    async def _talk(self, link: Link) -> Ended:
        client = self._client
        hello = Hello(
            version=PROTOCOL_VERSION,
            agent=client.agent,
            peer="cli",
            instance=client.instance,
            holder=client.holder,
            mode=self._mode,
            max_exchanges=client.max_exchanges,
        )
        try:
            with trio.fail_after(HELLO_TIMEOUT):
                await link.send_now(encode_hello(hello))
                answer = await link.receive_hello()
        except LinkRefused as error:
            return Ended(said(error.goaway), error.goaway, failure=Failure.UNWANTED)
        except (LinkClosed, ProtocolError) as error:
            return Ended(str(error))
        except trio.TooSlowError:
            return Ended("the relay does not answer", failure=Failure.SILENT)
        self._answerer = Answerer(
            link, self._handler, max_exchanges=client.max_exchanges, on_goaway=self._on_goaway
        )
        link.name = self.tunnel_id = shorten(printable(answer.tunnel_id), 64)
        heartbeat = Heartbeat(answer.heartbeat or HEARTBEAT)
        heartbeat.add(link)
        self.up = True
        self.since = trio.current_time()
        self._on_change()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heartbeat.run, name="tunnel heartbeat")
            reason = await self._answerer.run()
            nursery.cancel_scope.cancel()
        return Ended(said(self.going) if self.going else reason, self.going)

    def _on_goaway(self, goaway: GoAway) -> None:
        self.going = goaway
        self._on_change()

    async def leave(self, reason: str, seconds: float, *, moved: bool = False) -> bool:
        """Let exchanges in progress finish, and close; False if time was up first.

        It is the relay that closes, once it has heard that we leave and its last exchange has finished: it
        may have sent one before it heard. Such a one is refused, or answered when we have only `moved` to
        another tunnel.
        """
        answerer = self._answerer
        if answerer is None or self.ended is not None:
            return True
        answerer.drain(reason, accept=moved)
        with trio.move_on_after(seconds):
            while not self._over.is_set():
                await answerer.wait_idle()
                with trio.move_on_after(FINISH_TIME):
                    await self._over.wait()
                if not answerer.running:
                    break
        finished = not answerer.running
        answerer.link.finish(reason)
        with trio.move_on_after(FINISH_TIME):
            await self._over.wait()
        answerer.link.close(reason)
        return finished


def said(goaway: GoAway) -> str:
    """Give the reason in a GOAWAY, safe to print."""
    return shorten(printable(goaway.message), 300) or f"the server ended the tunnel (code {goaway.code})"
