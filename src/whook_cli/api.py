"""Calls of the server's APIs: `POST /v1/tunnels`, and `call` or `open_calls` for all the others.

Owns what can come back. `session` asks for a tunnel before each connection, `account_api` asks about
people and tokens, `events_api` about events. Refusals that no retry can mend raise `Exit` with their code;
what may pass by itself raises `Unavailable`. Must never follow a redirect (the request carries the token)
and never print it.
"""

import contextlib
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.reasons import explain
from whook_cli.text import printable, shorten
from whook_cli.tls import server_context

if TYPE_CHECKING:
    import httpx

TIMEOUT = 15.0
"""Seconds for the whole call."""
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")


class Unavailable(Exception):
    """The server cannot open a tunnel now; trying again may help.

    `answered` tells a server that said so from one that could not be reached. `retry_after` is in seconds.
    """

    def __init__(self, message: str, *, answered: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.answered = answered
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for one tunnel: where to connect, and the token for exactly that."""

    websocket_url: str
    token: str
    project_id: str
    public_url: str
    expires_at: str
    backlog: int = 0
    """Webhooks that wait and will come through this tunnel."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a call."""

    status: int
    body: bytes
    detail: str
    """What a problem document says, as the end of a sentence; empty if it is none."""

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"


class _Problem(msgspec.Struct):
    type: str = ""
    title: str = ""
    detail: str = ""


def check_server(url: str) -> str:
    """Check a `--server` value; gives it without its last slash. Raises `UsageError`."""
    mend = "write it as https://whook.example.com"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 the attribute raises for a port that is none
    except ValueError as error:
        raise UsageError(f"--server {url!r}: {error}", hint=mend) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--server {url!r} is not an http or https URL", hint=mend)
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("--server takes no user name, query or fragment", hint=mend)
    return url.rstrip("/")


def check_token(token: str | None, server: str) -> str:
    """Check that there is a token fit for a header. Raises `Exit`, without the token in its message."""
    if not (token := (token or "").strip()):
        raise Exit(
            ExitCode.UNAUTHORIZED,
            f"no token for {server}",
            hint='run whook login, or set WHOOK_TOKEN, or token = "..." in the user\'s whook.toml',
        )
    if not _TOKEN.match(token):
        raise UsageError("the token has characters that no token has: was it copied whole, without spaces?")
    return token


class Calls:
    """Calls over connections that are kept open in between; see `open_calls`."""

    def __init__(self, client: "httpx.AsyncClient") -> None:
        self._client = client

    async def call(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: dict[str, object] | None = None,
        form: dict[str, str] | None = None,
        params: list[tuple[str, str]] | None = None,
        seconds: float = TIMEOUT,
    ) -> Reply:
        """Make one call. A refusal is a reply as well; a server that cannot answer now is `Unavailable`."""
        import httpx

        headers = {"Accept": "application/json, */*;q=0.5"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = await self._client.request(
                method,
                url,
                json=body,
                data=form,
                params=tuple(params) if params else None,
                headers=headers,
                timeout=seconds,
            )
        except httpx.TimeoutException:
            raise Unavailable(f"{url} does not answer", answered=False) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unavailable(f"cannot reach {url}: {explain(error)}", answered=False) from None
        detail = _detail(response)
        if response.status_code == 503:
            retry = parse_retry_after(response.headers.get("Retry-After"))
            raise Unavailable(f"{url} cannot answer now{detail}", answered=True, retry_after=retry)
        return Reply(response.status_code, response.content, detail)


@asynccontextmanager
async def open_calls(server: str) -> AsyncGenerator[Calls]:
    """Open connections to `server` as they are needed, and close them with the block."""
    import httpx  # 100 ms that a usage error need not pay

    verify = server_context() if server.startswith("https:") else False
    async with httpx.AsyncClient(verify=verify, timeout=TIMEOUT, trust_env=False) as client:
        yield Calls(client)


async def call(
    method: str,
    url: str,
    *,
    token: str | None = None,
    body: dict[str, object] | None = None,
    form: dict[str, str] | None = None,
) -> Reply:
    """Make one call on a connection of its own. Raises `Unavailable`."""
    async with open_calls(url) as calls:
        return await calls.call(method, url, token=token, body=body, form=form)


async def request_tunnel(server: str, token: str, project: str, instance: str, *, watch: bool) -> Grant:
    """Ask for a tunnel to `project`. Raises `Exit` (refused for good) or `Unavailable`."""
    import httpx  # 100 ms that a usage error need not pay

    verify = server_context() if server.startswith("https:") else False
    try:
        async with httpx.AsyncClient(verify=verify, timeout=TIMEOUT, trust_env=False) as client:
            response = await client.post(
                f"{server}/v1/tunnels",
                json={"project": project, "instance": instance, "watch": watch},
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            )
    except httpx.TimeoutException:
        raise Unavailable(f"{server} does not answer", answered=False) from None
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unavailable(f"cannot reach {server}: {explain(error)}", answered=False) from None
    return _read(server, project, response)


def _read(server: str, project: str, response: "httpx.Response") -> Grant:
    if response.status_code in (200, 201):
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(response.content, type=Grant)
        raise Unavailable(f"{server} answered something that is no tunnel", answered=True)
    said = _detail(response)
    match response.status_code:
        case 401:
            raise Exit(ExitCode.UNAUTHORIZED, f"{server} refuses the token{said}")
        case 403:
            raise Exit(ExitCode.FORBIDDEN, f"project {project} is not yours{said}")
        case 400 | 422:
            raise UsageError(f"{server} refuses the project {project}{said}")
        case 404 | 405:
            hint = "--server takes the URL of the API, by default port 8081"
            raise Exit(ExitCode.UNREACHABLE, f"{server} is no whook API{said}", hint=hint)
        case 409:
            raise Exit(ExitCode.HELD, f"project {project} is in use{said}", hint="use --takeover or --watch")
        case 426:
            raise Exit(ExitCode.VERSION, f"{server} does not speak this version{said}", hint="update whook")
        case status if 300 <= status < 400:
            where = printable(response.headers.get("Location", "elsewhere"))
            raise Exit(
                ExitCode.UNREACHABLE,
                f"{server} redirects to {where}",
                hint="name the API itself with --server",
            )
        case status:
            retry = parse_retry_after(response.headers.get("Retry-After"))
            message = f"{server} cannot open a tunnel now ({status}){said}"
            raise Unavailable(message, answered=True, retry_after=retry)


def _detail(response: "httpx.Response") -> str:
    """Give what a problem document says, as the end of a sentence (RFC 9457 section 3)."""
    try:
        problem = msgspec.json.decode(response.content[:65_536], type=_Problem)
    except msgspec.DecodeError:
        return ""
    text = shorten(printable((problem.detail or problem.title).rstrip(".")), 300)
    return f": {text}" if text else ""


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After field (RFC 9110 section 10.2.3): a number, or a date that lies ahead."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
