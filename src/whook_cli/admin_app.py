"""The commands for operators: `whook admin relays|tunnels|projects|drain|kick|queue`. Options only.

`app` mounts them. The work is in `admin_commands`, imported by the command that runs.
"""

from typing import Annotated

from cyclopts import App, Parameter

from whook_cli.options import AccountOptions

Account = Annotated[AccountOptions, Parameter(name="*")]
Json = Annotated[bool, Parameter(help="Print one JSON object per line.", negative="")]
_NONE = AccountOptions()


def _option(text: str, negative: str | None = None) -> Parameter:
    """Return an option that is on the command line only."""
    return Parameter(help=text, negative=negative, show_env_var=False)


Limit = Annotated[int, _option("How many, at most.")]

admin = App(name="admin", help="For operators: relays, tunnels, projects and the queue of the whole service.")


@admin.command(name="relays")
def admin_relays(*, account: Account = _NONE, json: Json = False) -> None:
    """List the relays: load, capacity, whether they drain, their leases."""
    from whook_cli.admin_commands import run_relays

    run_relays(account, as_json=json)


@admin.command(name="tunnels")
def admin_tunnels(
    name: Annotated[str | None, _option("Only that of the project of this name.")] = None,
    *,
    account: Account = _NONE,
    relay: Annotated[str | None, _option("Only those on this relay.")] = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List the tunnels that hold projects, by project."""
    from whook_cli.admin_commands import run_tunnels

    run_tunnels(account, name, relay, limit, as_json=json)


@admin.command(name="projects")
def admin_projects(*, account: Account = _NONE, limit: Limit = 100, json: Json = False) -> None:
    """List all projects, whosever they are, with what waits."""
    from whook_cli.admin_commands import run_projects

    run_projects(account, limit, as_json=json)


@admin.command(name="drain")
def admin_drain(
    relay: Annotated[str, _option("Id of the relay.")],
    *,
    account: Account = _NONE,
    undo: Annotated[bool, _option("Put it back in service.", negative="")] = False,
    wait: Annotated[bool, _option("Wait until it holds no tunnel any more.", negative="")] = False,
    timeout: Annotated[float | None, _option("With --wait: seconds at most. Default: no limit.")] = None,
    json: Json = False,
) -> None:
    """Take a relay out of service: no new tunnels, and its clients go to other relays."""
    from whook_cli.admin_commands import run_drain

    run_drain(account, relay, undo=undo, wait=wait, timeout=timeout, as_json=json)


@admin.command(name="kick")
def admin_kick(
    tunnel: Annotated[str, _option("Id of the tunnel: tun_...")],
    *,
    account: Account = _NONE,
    json: Json = False,
) -> None:
    """Close a tunnel; its client ends, and may come again."""
    from whook_cli.admin_commands import run_kick

    run_kick(account, tunnel, as_json=json)


@admin.command(name="queue")
def admin_queue(*, account: Account = _NONE, limit: Limit = 100, json: Json = False) -> None:
    """Show what waits and what is dead, in all and by project; what has waited for longest comes first."""
    from whook_cli.admin_commands import run_queue

    run_queue(account, limit, as_json=json)


def mount(app: App) -> None:
    """Add the commands."""
    app.command(admin)
