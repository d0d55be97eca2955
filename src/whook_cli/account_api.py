"""What `whook login`, `tokens` and `projects` ask of the auth service, and how its refusals end the command.

Called by `account_commands`. Must never print a token or a device code.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec
import trio

from whook_cli.api import Reply, Unavailable, call, check_server
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.reachable import is_private
from whook_cli.replies import check, decode
from whook_cli.text import printable, shorten

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER: Final = 5.0
"""Seconds that `slow_down` adds to the interval (RFC 8628 section 3.5)."""

T = TypeVar("T")


class WhoAmI(msgspec.Struct):
    """Whose token it is."""

    user: str
    token_id: str
    scopes: list[str]
    projects: list[str]
    expires_at: str | None


class TokenRecord(msgspec.Struct):
    """A token, without itself."""

    id: str
    name: str
    scopes: list[str]
    projects: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    current: bool = False
    token: str = ""

    def __repr__(self) -> str:
        return f"<TokenRecord {self.id}>"


class ProjectRole(msgspec.Struct):
    """A project and one's role in it."""

    name: str
    role: str


class MemberRole(msgspec.Struct):
    """A member and its role."""

    user: str
    role: str


class Codes(msgspec.Struct):
    """RFC 8628 section 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int = 5
    verification_uri_complete: str = ""

    def __repr__(self) -> str:
        return "<Codes>"


class _Server(msgspec.Struct):
    auth_url: str | None = None


class _Tokens(msgspec.Struct):
    tokens: list[TokenRecord]


class _Projects(msgspec.Struct):
    projects: list[ProjectRole]


class _Members(msgspec.Struct):
    members: list[MemberRole]


class _Issued(msgspec.Struct):
    access_token: str


class _OAuthError(msgspec.Struct):
    error: str = ""
    error_description: str = ""


async def find_auth(server: str) -> str:
    """Ask a server where its people log in. Raises `Exit`."""
    found = _read(await _call("GET", f"{server}/v1/server"), _Server).auth_url
    if not found:
        raise Exit(ExitCode.UNREACHABLE, f"{server} has no login", hint="use an access token: WHOOK_TOKEN")
    url = check_server(found)
    if is_private(server) and not is_private(url):
        raise Exit(ExitCode.UNREACHABLE, f"{server} names a login that is not https: {printable(url)}")
    return url


@dataclass(frozen=True, slots=True)
class AuthApi:
    """The auth service, asked with one token."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"<AuthApi {self.url}>"

    async def whoami(self) -> WhoAmI:
        """Ask whose token it is. Raises `Exit`, as all of these do."""
        return _read(await self._ask("GET", "whoami"), WhoAmI)

    async def revoke_current(self) -> bool:
        """Revoke the token; return False if it was no good any more."""
        reply = await _call("DELETE", f"{self.url}/v1/tokens/current", token=self.token)
        if reply.status == 401:
            return False
        check(reply)
        return True

    async def tokens(self) -> list[TokenRecord]:
        """List the user's tokens."""
        return _read(await self._ask("GET", "tokens"), _Tokens).tokens

    async def create_token(
        self, name: str, scopes: list[str], projects: list[str], expires_in: int | None
    ) -> TokenRecord:
        """Make a token."""
        body: dict[str, object] = {
            "name": name,
            "scopes": scopes,
            "projects": projects,
            "expires_in": expires_in,
        }
        return _read(await self._ask("POST", "tokens", body), TokenRecord)

    async def revoke_token(self, token_id: str) -> None:
        """Revoke a token."""
        await self._ask("DELETE", f"tokens/{quote(token_id, safe='')}")

    async def projects(self) -> list[ProjectRole]:
        """List the user's projects."""
        return _read(await self._ask("GET", "projects"), _Projects).projects

    async def delete_project(self, project: str) -> None:
        """Give a project up."""
        await self._ask("DELETE", f"projects/{quote(project, safe='')}")

    async def members(self, project: str) -> list[MemberRole]:
        """List the members of a project."""
        return _read(await self._ask("GET", f"projects/{quote(project, safe='')}/members"), _Members).members

    async def set_member(self, project: str, user: str, role: str) -> None:
        """Give somebody a role."""
        path = f"projects/{quote(project, safe='')}/members/{quote(user, safe='')}"
        await self._ask("PUT", path, {"role": role})

    async def remove_member(self, project: str, user: str) -> None:
        """Remove a member."""
        await self._ask("DELETE", f"projects/{quote(project, safe='')}/members/{quote(user, safe='')}")

    async def _ask(self, method: str, path: str, body: dict[str, object] | None = None) -> Reply:
        reply = await _call(method, f"{self.url}/v1/{path}", token=self.token, body=body)
        check(reply)
        return reply


async def log_in(url: str, client: str, scopes: str, show: Callable[[Codes], None]) -> str:
    """Get a token by RFC 8628; `show` tells the person what to do. Raises `Exit`."""
    form = {"client_id": client} | ({"scope": scopes} if scopes else {})
    begun = await _call("POST", f"{url}/oauth/device_authorization", form=form)
    if begun.status != 200:
        raise UsageError(f"{url} refuses the login: {_said(_error(begun))}")
    codes = _read(begun, Codes)
    show(codes)
    end = time.monotonic() + codes.expires_in
    interval = float(max(0, codes.interval))
    form = {"grant_type": DEVICE_GRANT, "device_code": codes.device_code, "client_id": client}
    while time.monotonic() < end:
        await trio.sleep(interval)
        try:
            reply = await call("POST", f"{url}/oauth/token", form=form)
        except Unavailable as outage:
            # RFC 8628 section 3.5: a connection that fails is no answer; try again, less often.
            interval = max(interval * 2, outage.retry_after or 1.0)
            continue
        if reply.status == 200:
            return _read(reply, _Issued).access_token
        error = _error(reply)
        if error.error == "slow_down":
            interval += SLOWER
        elif error.error != "authorization_pending":
            raise Exit(ExitCode.UNAUTHORIZED, f"no login: {_said(error)}")
    raise Exit(ExitCode.UNAUTHORIZED, "no login: it took too long", hint="run whook login again")


async def _call(
    method: str,
    url: str,
    *,
    token: str | None = None,
    body: dict[str, object] | None = None,
    form: dict[str, str] | None = None,
) -> Reply:
    try:
        return await call(method, url, token=token, body=body, form=form)
    except Unavailable as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from None


def _read(reply: Reply, kind: type[T]) -> T:
    if reply.status >= 400:
        check(reply)
    return decode(reply, kind)


def _error(reply: Reply) -> _OAuthError:
    try:
        return msgspec.json.decode(reply.body[:65_536], type=_OAuthError)
    except msgspec.DecodeError:
        return _OAuthError(error=f"status {reply.status}")


def _said(error: _OAuthError) -> str:
    return shorten(printable(error.error_description or error.error), 300)
