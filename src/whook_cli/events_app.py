"""The commands about events: list, show, replay, export, tail. Options only.

`app` mounts them. The work is in `events_commands` and `events_replay`, imported by the command that runs.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from whook_cli.options import AccountOptions

Status = Literal["failed", "answered", "buffered", "dead", "refused"]
Account = Annotated[AccountOptions, Parameter(name="*")]
_NONE = AccountOptions()


def _option(text: str, negative: str | None = None) -> Parameter:
    """Return an option that is on the command line only."""
    return Parameter(help=text, negative=negative, show_env_var=False)


Project = Annotated[str | None, Parameter(help="Name of the project.")]
Since = Annotated[str | None, _option("Received at or after: 2h, 15m, 3d ago, or 2026-11-23T20:00.")]
Until = Annotated[str | None, _option("Received before; written like --since.")]
Wanted = Annotated[
    Status | None,
    _option("Only events in this state; failed: dead, or without a response below 400."),
]
Grep = Annotated[str, _option("Only events with this text in method, target, headers or body, in any case.")]
Json = Annotated[bool, Parameter(help="Print one JSON object per line.", negative="")]

events = App(name="events", help="The webhooks that came: list, show, replay, export, tail.")


@events.command(name="list")
def events_list(
    project: Project = None,
    *,
    account: Account = _NONE,
    since: Since = None,
    until: Until = None,
    status: Wanted = None,
    grep: Grep = "",
    limit: Annotated[int, _option("How many, at most.")] = 50,
    json: Json = False,
) -> None:
    """List the events of a project, the newest first."""
    from whook_cli.events_commands import make_filters, need_project, run_list

    filters = make_filters(since, until, status, grep)
    run_list(account, need_project(project, "list PROJECT"), filters, limit, as_json=json)


@events.command(name="show")
def events_show(
    event: Annotated[str, _option("Id of the event: evt_...")],
    *,
    account: Account = _NONE,
    raw: Annotated[
        bool, _option("Write the request as it came, byte for byte, and nothing else.", negative="")
    ] = False,
    body: Annotated[
        bool, _option("Write the request's body, byte for byte, and nothing else.", negative="")
    ] = False,
) -> None:
    """Show an event: the request, and every delivery with its response."""
    from whook_cli.events_commands import run_show

    run_show(account, event, raw=raw, body=body)


@events.command(name="replay")
def events_replay(
    *event: Annotated[str, _option("Ids of events, in the order to deliver them.")],
    project: Project = None,
    account: Account = _NONE,
    since: Since = None,
    until: Until = None,
    status: Wanted = None,
    grep: Grep = "",
    speed: Annotated[
        str, _option("max: one after the other. 1x: as far apart as they came; 2x: twice as fast.")
    ] = "max",
    to: Annotated[
        str | None,
        _option("Send them from here to this URL, instead of through the project's tunnel."),
    ] = None,
    host_header: Annotated[
        Literal["keep", "rewrite"], Parameter(help="With --to: Host header as it was, or that of the URL.")
    ] = "keep",
    insecure: Annotated[
        bool, Parameter(help="With --to: do not verify the certificate of an https URL.", negative="")
    ] = False,
) -> None:
    """Deliver events again, byte for byte: these, or all of a range, the oldest first."""
    from whook_cli.events_commands import make_filters
    from whook_cli.events_replay import ReplayPlan, run_replay
    from whook_cli.events_time import parse_speed

    plan = ReplayPlan(
        events=event,
        project=project,
        filters=make_filters(since, until, status, grep),
        speed=parse_speed(speed),
        to=to,
        insecure=insecure,
        rewrite_host=host_header == "rewrite",
    )
    run_replay(account, plan)


@events.command(name="export")
def events_export(
    *event: Annotated[str, _option("Ids of events.")],
    account: Account = _NONE,
    format: Annotated[  # noqa: A002 it is the option's name
        Literal["curl", "har", "raw"],
        _option("curl: commands that send the same bytes. har: HTTP archive. raw: HTTP messages."),
    ] = "curl",
    to: Annotated[
        str | None, _option("Where the curl commands send to. Default: http://localhost:3000.")
    ] = None,
    output: Annotated[Path | None, _option("File to write. Default: standard output.")] = None,
) -> None:
    """Write events in a form that other tools read."""
    from whook_cli.events_commands import run_export

    run_export(account, event, format, output, to)


@events.command(name="tail")
def events_tail(
    project: Project = None,
    *,
    account: Account = _NONE,
    status: Wanted = None,
    grep: Grep = "",
    json: Json = False,
) -> None:
    """Print events as they are recorded, until Ctrl-C."""
    from whook_cli.events_commands import make_filters, need_project, run_tail

    filters = make_filters(None, None, status, grep)
    run_tail(account, need_project(project, "tail PROJECT"), filters, as_json=json)


def mount(app: App) -> None:
    """Add the commands."""
    app.command(events)
