"""The commands that run until they are stopped: what their options amount to, and their trees of tasks.

Owns the composition of a client: display, stop, pool, handler, session. `app` calls one `run_…` for each
command; the server parts are reached through `whook_cli.allinone` alone, and only by the commands that need
them. Must never let an exception group of expected failures reach the user.
"""

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from whook.wire import Mode
from whook_cli.about import say, version_line
from whook_cli.api import check_server, check_token
from whook_cli.credentials import stored_token
from whook_cli.dev_login import lent_login
from whook_cli.display import Display, open_display
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.forward import Forwarder
from whook_cli.handler import Handler
from whook_cli.options import ForwardOptions, OutputOptions, ServerOptions, TunnelOptions
from whook_cli.pool import open_pool
from whook_cli.reachable import is_private
from whook_cli.reasons import explain
from whook_cli.respond import Responder, make_responder
from whook_cli.session import Plan, Session
from whook_cli.spans import open_spans
from whook_cli.stop import Stop, cut_off, open_stop
from whook_cli.target import Target, parse_target
from whook_cli.tunnel import Client, holder_name

if TYPE_CHECKING:
    from whook_cli.allinone import Server


@dataclass(frozen=True, slots=True)
class Far:
    """What is to become of the webhooks, checked."""

    target: Target | None
    responder: Responder
    shown: str
    options: ForwardOptions


def check_forward(options: ForwardOptions, drain_timeout: float, *, watch: bool) -> Far:
    """Check what can be checked before anything is connected. Raises `UsageError`."""
    if not 1 <= options.max_exchanges <= 65_536:
        raise UsageError(f"--max-exchanges {options.max_exchanges}: 1 to 65536")
    _check_drain(drain_timeout)
    responder = make_responder(options.respond, options.respond_body)
    target = parse_target(options.forward) if options.forward is not None else None
    if watch:
        shown = "watching, answering nothing"
    elif target is not None:
        shown = target.url
    else:
        shown = f"shown here, answered {options.respond}"
    return Far(target, responder, shown, options)


def _check_drain(seconds: float) -> None:
    if not 0 <= seconds <= 3600:
        raise UsageError(f"--drain-timeout {seconds:g}: 0 to 3600 seconds")


@asynccontextmanager
async def _open_handler(far: Far, output: OutputOptions, display: Display) -> AsyncGenerator[Handler]:
    handler = Handler(display, far.responder, verbose=output.verbose)
    async with AsyncExitStack() as stack:
        handler.spans = await stack.enter_async_context(open_spans(version_line().split()[1], display))
        if far.target is None:
            yield handler
            return
        pool = await stack.enter_async_context(open_pool(far.target, insecure=far.options.insecure))
        rewrite = far.options.host_header == "rewrite"
        handler.forwarder = Forwarder(pool, rewrite_host=rewrite, opened=handler.opened)
        yield handler


def _plan(project: str, server: str, token: str, mode: Mode, far: Far, drain_timeout: float) -> Plan:
    client = Client(
        agent=version_line().replace(" ", "/"),
        instance=f"cli_{os.urandom(12).hex()}",
        holder=holder_name(),
        max_exchanges=far.options.max_exchanges,
    )
    forward = far.target.url if far.target else None
    return Plan(server, token, project, mode, far.shown, forward, drain_timeout, client)


def run_connect(
    project: str,
    tunnel: TunnelOptions,
    forward: ForwardOptions,
    output: OutputOptions,
    drain_timeout: float,
) -> int:
    """`whook connect`: gives the exit status. Raises `Exit`."""
    server = check_server(tunnel.server)
    if tunnel.takeover and tunnel.watch:
        raise UsageError("--takeover and --watch exclude each other")
    mode: Mode = "watch" if tunnel.watch else "takeover" if tunnel.takeover else "exclusive"
    far = check_forward(forward, drain_timeout, watch=tunnel.watch)
    token = check_token(tunnel.token or stored_token(server), server)
    plan = _plan(project, server, token, mode, far, drain_timeout)

    async def main() -> int:
        ending: Exit | None = None
        async with open_display(as_json=output.json, out=sys.stdout, err=sys.stderr) as display:
            if not is_private(server):
                text = f"{server} is not https: the token and all webhooks travel in the clear"
                display.status("warning", text, serious=True)
            async with open_stop() as stop, _open_handler(far, output, display) as handler:
                ending = await Session(plan, handler, display, stop).run()
        return _status(cut_off() if stop.forced else ending)

    return trio.run(main)


def run_dev(
    project: str,
    forward: ForwardOptions,
    output: OutputOptions,
    server: ServerOptions,
    drain_timeout: float,
) -> int:
    """`whook dev`: gives the exit status. Raises `Exit`."""
    far = check_forward(forward, drain_timeout, watch=False)
    with _server_installed():
        from whook_cli.allinone import run_allinone

    async def main() -> int:
        ending: Exit | None = None
        async with open_display(as_json=output.json, out=sys.stdout, err=sys.stderr) as display:

            async def tunnel(running: "Server") -> None:
                nonlocal ending
                stop = Stop()
                plan = _plan(project, running.api_url, running.local_token(), "exclusive", far, drain_timeout)
                async with (
                    _lent(running),
                    _open_handler(far, output, display) as handler,
                    trio.open_nursery() as nursery,
                ):
                    session = Session(plan, handler, display, stop)
                    nursery.start_soon(_follow, running, session, stop)
                    ended = await session.run()
                    # While the server is stopping its API is closed already: that is no failure to report.
                    ending = None if running.stopping.begun else ended
                    nursery.cancel_scope.cancel()

            status = await run_allinone(
                server, drain_seconds=drain_timeout, default_log_level="warning", companion=tunnel
            )
        return _status(ending) or _daemon_status(status)

    return _run_server(main)


def run_serve(server: ServerOptions, drain_timeout: float) -> int:
    """`whook serve`: gives the exit status. Raises `Exit`."""
    _check_drain(drain_timeout)
    with _server_installed():
        from whook_cli.allinone import run_allinone

    async def wait(running: "Server") -> None:
        say(f"webhooks     {running.public_url('PROJECT')}")
        say(f"API          {running.api_url}")
        say(f"login        {running.auth_url}")
        say(f"data         {running.data_dir}")
        if (token := await running.admin_token()) is not None:
            say(f"admin token  {token}  (shown this once)")
        sys.stdout.flush()
        await running.drain.wait()

    async def main() -> int:
        status = await run_allinone(
            server, drain_seconds=drain_timeout, default_log_level="info", companion=wait
        )
        return _daemon_status(status)

    return _run_server(main)


@asynccontextmanager
async def _lent(running: "Server") -> AsyncGenerator[None]:
    """Let other terminals ask this server as long as the block runs."""
    with lent_login(running.api_url, running.auth_url, running.client_token()):
        yield


async def _follow(running: "Server", session: Session, stop: Stop) -> None:
    """Let the tunnel of `whook dev` go when its server does: requests in flight still need it at first."""
    await running.stopping.wait()
    session.say_draining()
    await running.drain.wait()
    stop.begin("the server is stopping")


@contextmanager
def _server_installed() -> Generator[None]:
    """Say in one line that only the client is installed when the block cannot import the server."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("whook"):
            raise
        missing = f"the server is not installed here, only the client: {error.name} is missing"
        raise Exit(ExitCode.SERVER, missing, hint="install whook[server]") from error


def _daemon_status(status: int) -> int:
    """Translate what a daemon's end means: above 128 it is the signal that cut it off."""
    if status > 128:
        raise cut_off()
    return status


def _status(ending: Exit | None) -> int:
    if ending is None:
        return ExitCode.OK
    raise ending


def _run_server(main: Callable[[], Awaitable[int]]) -> int:
    """Run a command that has a server; a server that cannot start is an `Exit`, anything else a defect."""
    try:
        return trio.run(main)
    except (Exit, OSError, ExceptionGroup) as error:
        reasons = list(_leaves(error))
        if not all(isinstance(reason, (Exit, OSError)) for reason in reasons):
            raise
        first = reasons[0]
        if isinstance(first, Exit):
            raise first from error
        where = f": {first.filename}" if isinstance(first, OSError) and first.filename else ""
        raise Exit(ExitCode.SERVER, f"the server cannot run: {explain(first)}{where}") from error


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
