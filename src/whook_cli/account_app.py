"""The commands about people and tokens: login, logout, whoami, tokens, projects. Options only.

`app` mounts them. The work is in `account_commands`, imported by the command that runs.
"""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from whook_cli.options import AccountOptions

Role = Literal["owner", "developer", "viewer"]
Scope = Literal["connect", "events:read", "events:replay", "projects:write", "admin"]
Account = Annotated[AccountOptions, Parameter(name="*")]
Json = Annotated[bool, Parameter(help="Print one JSON object.", negative="")]
_NONE = AccountOptions()

tokens = App(name="tokens", help="Your access tokens.")
projects = App(name="projects", help="Your projects and their members.")
members = App(name="members", help="Who belongs to a project.")
projects.command(members)


def login(
    *,
    account: Account = _NONE,
    scopes: Annotated[
        str, Parameter(help="What the token may do, separated by spaces. Default: all but admin.")
    ] = "",
) -> None:
    """Log in to a whook server in the browser; whook connect then needs no --token."""
    from whook_cli.account_commands import run_login

    run_login(account.server, scopes)


def logout(*, account: Account = _NONE) -> None:
    """Revoke the token of the login and forget it."""
    from whook_cli.account_commands import run_logout

    run_logout(account.server)


def whoami(*, account: Account = _NONE) -> None:
    """Show who you are for the server, and what the token may do."""
    from whook_cli.account_commands import run_whoami

    run_whoami(account.server, account.token)


@tokens.command(name="list")
def tokens_list(
    *,
    account: Account = _NONE,
    revoked: Annotated[bool, Parameter(help="Those that were revoked as well.", negative="")] = False,
) -> None:
    """List your tokens."""
    from whook_cli.account_commands import run_tokens_list

    run_tokens_list(account.server, account.token, revoked=revoked)


@tokens.command(name="create")
def tokens_create(
    name: Annotated[str, Parameter(help="What you call it.")],
    *,
    account: Account = _NONE,
    scope: Annotated[tuple[Scope, ...], Parameter(help="What it may do; may be repeated.")] = ("connect",),
    only: Annotated[
        tuple[str, ...], Parameter(help="The only project it is good for; may be repeated.")
    ] = (),
    expires_in: Annotated[int | None, Parameter(help="Seconds until it expires. Default: never.")] = None,
) -> None:
    """Make a token and print it, this once."""
    from whook_cli.account_commands import run_tokens_create

    run_tokens_create(account.server, account.token, name, scope, only, expires_in)


@tokens.command(name="revoke")
def tokens_revoke(token_id: str, *, account: Account = _NONE) -> None:
    """Revoke a token; its tunnels close."""
    from whook_cli.account_commands import run_tokens_revoke

    run_tokens_revoke(account.server, account.token, token_id)


@projects.command(name="list")
def projects_list(*, account: Account = _NONE) -> None:
    """List your projects."""
    from whook_cli.account_commands import run_projects_list

    run_projects_list(account.server, account.token)


@projects.command(name="delete")
def projects_delete(name: str, *, account: Account = _NONE) -> None:
    """Give a project up: its tunnels close, its name is free."""
    from whook_cli.account_commands import run_projects_delete

    run_projects_delete(account.server, account.token, name)


@projects.command(name="show")
def projects_show(name: str, *, account: Account = _NONE, json: Json = False) -> None:
    """Show a project: who is connected, what waits, and its policy."""
    from whook_cli.project_policy import run_show

    run_show(account.server, account.token, name, as_json=json)


@projects.command(name="set")
def projects_set(
    name: str,
    *settings: Annotated[str, Parameter(help="KEY=VALUE; VALUE default takes a setting back.")],
    account: Account = _NONE,
    json: Json = False,
) -> None:
    """Set what is done with webhooks that cannot be delivered at once, and show the policy."""
    from whook_cli.project_policy import run_set

    run_set(account.server, account.token, name, settings, as_json=json)


@members.command(name="list")
def members_list(name: str, *, account: Account = _NONE) -> None:
    """List the members of a project."""
    from whook_cli.account_commands import run_members_list

    run_members_list(account.server, account.token, name)


@members.command(name="set")
def members_set(name: str, user: str, role: Role, *, account: Account = _NONE) -> None:
    """Make somebody a member with a role, or change the role."""
    from whook_cli.account_commands import run_members_set

    run_members_set(account.server, account.token, name, user, role)


@members.command(name="remove")
def members_remove(name: str, user: str, *, account: Account = _NONE) -> None:
    """Remove somebody; their tunnels for the project close."""
    from whook_cli.account_commands import run_members_remove

    run_members_remove(account.server, account.token, name, user)


def mount(app: App) -> None:
    """Add the commands."""
    for command in (login, logout, whoami):
        app.command(command)
    app.command(tokens)
    app.command(projects)
