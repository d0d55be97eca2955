"""`whook login`, `logout`, `whoami`, `tokens` and `projects`: what they ask, keep and print.

Called by `account_app`. Each is one short conversation with the auth service. A token is printed only by
`tokens create`, once.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from whook_cli.about import complain, say
from whook_cli.account_api import AuthApi, Codes, TokenRecord, find_auth, log_in
from whook_cli.api import check_server, check_token
from whook_cli.credentials import Login, forget_login, read_logins, store_login, stored_token
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.reachable import is_private
from whook_cli.table import table
from whook_cli.text import printable
from whook_cli.tunnel import holder_name

T = TypeVar("T")


def run_login(server: str, scopes: str, given: str | None = None) -> None:
    """Log in in a browser and keep the token, or keep a given one that is good. Raises `Exit`.

    One from `WHOOK_TOKEN` or a file counts as given.
    """
    server = check_server(server)
    if given is not None and scopes:
        raise UsageError("--scopes is for a login in the browser: a token that exists has its scopes")
    if given is not None:
        given = check_token(given, server)
    if not is_private(server):
        complain(f"{server} is not https: the token travels in the clear")

    def show(codes: Codes) -> None:
        say(f"Open  {printable(codes.verification_uri_complete or codes.verification_uri)}")
        say(f"and confirm the code  {printable(codes.user_code)}")
        sys.stdout.flush()

    async def main() -> str:
        url = await find_auth(server)
        token = given or await log_in(url, f"whook of {holder_name()}", scopes, show)
        api = AuthApi(url, token)
        user = (await api.whoami()).user
        try:
            store_login(server, Login(token=token, user=user, auth_url=url))
        except Exit:
            if given is None:  # nobody else has it
                await api.revoke_current()  # noqa: ASYNC120
            raise
        return user

    how = ", with the token that was given" if given is not None else ""
    say(f"Logged in to {server} as {printable(trio.run(main))}{how}.")


def run_logout(server: str) -> None:
    """Revoke the token of a login and forget it. Raises `Exit`."""
    server = check_server(server)
    login = read_logins().get(server)
    if login is None:
        say(f"Not logged in to {server}.")
        return
    try:
        trio.run(AuthApi(login.auth_url, login.token).revoke_current)
    except Exit as error:
        if error.code != ExitCode.UNREACHABLE:
            raise
        raise Exit(
            error.code, f"{error.message}; the token still stands", hint="try again, so that it is revoked"
        ) from None
    forget_login(server)
    say(f"Logged out of {server}.")


def run_whoami(server: str, token: str | None) -> None:
    """Print whose token it is. Raises `Exit`."""
    me = _ask(server, token, lambda api: api.whoami())
    say(f"user      {printable(me.user)}")
    say(f"token     {me.token_id}")
    say(f"scopes    {' '.join(me.scopes)}")
    say(f"projects  {' '.join(me.projects) or 'all'}")
    say(f"expires   {me.expires_at or 'never'}")


def run_tokens_list(server: str, token: str | None, *, revoked: bool) -> None:
    """Print the user's tokens. Raises `Exit`."""
    found = _ask(server, token, lambda api: api.tokens())
    rows = [_token_row(one) for one in found if revoked or one.revoked_at is None]
    _table(("ID", "NAME", "SCOPES", "PROJECTS", "LAST USED", "EXPIRES"), rows)


def run_tokens_create(
    server: str,
    token: str | None,
    name: str,
    scopes: Sequence[str],
    projects: Sequence[str],
    expires_in: int | None,
) -> None:
    """Make a token and print it alone on its line. Raises `Exit`."""
    made = _ask(server, token, lambda api: api.create_token(name, list(scopes), list(projects), expires_in))
    complain(f"token {made.id}, shown this once:")
    say(made.token)


def run_tokens_revoke(server: str, token: str | None, token_id: str) -> None:
    """Revoke a token. Raises `Exit`."""
    _ask(server, token, lambda api: api.revoke_token(token_id))
    say(f"Revoked {token_id}.")


def run_projects_list(server: str, token: str | None) -> None:
    """Print the user's projects. Raises `Exit`."""
    found = _ask(server, token, lambda api: api.projects())
    _table(("PROJECT", "ROLE"), [(one.name, one.role) for one in found])


def run_projects_delete(server: str, token: str | None, project: str) -> None:
    """Give a project up. Raises `Exit`."""
    _ask(server, token, lambda api: api.delete_project(project))
    say(f"Deleted {project}.")


def run_members_list(server: str, token: str | None, project: str) -> None:
    """Print a project's members. Raises `Exit`."""
    found = _ask(server, token, lambda api: api.members(project))
    _table(("USER", "ROLE"), [(one.user, one.role) for one in found])


def run_members_set(server: str, token: str | None, project: str, user: str, role: str) -> None:
    """Give somebody a role. Raises `Exit`."""
    _ask(server, token, lambda api: api.set_member(project, user, role))
    say(f"{user} is {role} of {project}.")


def run_members_remove(server: str, token: str | None, project: str, user: str) -> None:
    """Remove a member. Raises `Exit`."""
    _ask(server, token, lambda api: api.remove_member(project, user))
    say(f"{user} is no longer a member of {project}.")


def _ask(server: str, token: str | None, question: Callable[[AuthApi], Awaitable[T]]) -> T:
    server = check_server(server)
    given = check_token(token or stored_token(server), server)

    async def main() -> T:
        return await question(AuthApi(await find_auth(server), given))

    return trio.run(main)


def _token_row(one: TokenRecord) -> tuple[str, ...]:
    return (
        one.id,
        f"{one.name} (this one)" if one.current else one.name,
        " ".join(one.scopes),
        " ".join(one.projects) or "all",
        one.last_used_at or "never",
        "revoked" if one.revoked_at else one.expires_at or "never",
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    for line in table(head, rows):
        say(line)
