"""`whook projects show` and `set`: a project's policy, read and changed through the server's API.

Called by `account_app`. Values are written as people do: 30s, 7d, 64KiB, 1GiB, on, off, POST,PUT, default.
What the server would refuse is refused here only where it could not even be sent.
"""

import difflib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NoReturn

import msgspec
import trio

from whook_cli.about import say
from whook_cli.api import Reply, Unavailable, call, check_server, check_token
from whook_cli.credentials import stored_token
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.text import duration, printable, size

Kind = Literal["switch", "number", "time", "bytes", "list", "text"]
KEYS: Final[dict[str, Kind]] = {
    "buffer": "switch",
    "buffer_methods": "list",
    "buffered_status": "number",
    "buffered_body": "text",
    "buffered_content_type": "text",
    "order": "text",
    "head_of_line": "text",
    "window": "number",
    "max_attempts": "number",
    "retry_base": "time",
    "retry_cap": "time",
    "max_count": "number",
    "max_bytes": "bytes",
    "max_age": "time",
    "dedup_window": "time",
    "dedup_header": "text",
}
_SWITCH: Final = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
_TIMES: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SIZES: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_DEFAULT: Final = "default"

Value = bool | int | float | str | list[str] | None


class Tunnel(msgspec.Struct):
    """Who is connected."""

    id: str
    holder: str


class Backlog(msgspec.Struct):
    """What waits."""

    count: int
    bytes: int
    oldest_at: datetime | None = None


class ProjectDetail(msgspec.Struct):
    """A project as the server shows it."""

    id: str
    name: str
    public_url: str
    policy: dict[str, Value]
    tunnel: Tunnel | None = None
    backlog: Backlog | None = None


def run_show(server: str, token: str | None, name: str, *, as_json: bool) -> None:
    """Print a project with its policy and what waits. Raises `Exit`."""
    _print(_ask("GET", server, token, name, None), as_json=as_json)


def run_set(server: str, token: str | None, name: str, settings: Sequence[str], *, as_json: bool) -> None:
    """Change a project's policy and print it. Raises `Exit`."""
    _print(_ask("PATCH", server, token, name, parse_settings(settings)), as_json=as_json)


def parse_settings(settings: Sequence[str]) -> dict[str, Value]:
    """Return what `key=value` arguments say. Raises `UsageError`, which names the mend."""
    if not settings:
        raise UsageError("what is to be set?", hint="such as order=live-first or max_age=3d")
    found: dict[str, Value] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"{printable(setting)!r} has no value", hint="write KEY=VALUE")
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
            raise UsageError(f"there is no setting {printable(key)!r}", hint=mend)
        found[key] = None if value == _DEFAULT else _parse(key, value)
    return found


def _parse(key: str, value: str) -> Value:
    match KEYS[key]:
        case "switch":
            if value.lower() not in _SWITCH:
                _refuse(key, value, "on or off")
            return _SWITCH[value.lower()]
        case "number":
            if not (value.isascii() and value.replace("_", "").isdigit()):
                _refuse(key, value, "a number")
            return int(value.replace("_", ""))
        case "time":
            return _scaled(key, value, {"": 1, **_TIMES}, "seconds, or 30s, 5m, 12h, 7d")
        case "bytes":
            return int(_scaled(key, value.upper(), {"": 1, **_SIZES}, "bytes, or 64KiB, 10MB, 1GiB"))
        case "list":
            return [part.strip() for part in value.split(",") if part.strip()]
        case "text":
            return value


def _scaled(key: str, value: str, units: dict[str, int], mend: str) -> float:
    digits = value.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = value[len(digits) :].strip()
    plain = digits.replace(".", "", 1)
    if unit not in units or not (plain.isascii() and plain.isdigit()):
        _refuse(key, value, mend)
    return float(digits) * units[unit]


def _refuse(key: str, value: str, mend: str) -> NoReturn:
    raise UsageError(f"{key}={printable(value)}: give {mend}")


def _ask(
    method: str, server: str, token: str | None, name: str, body: dict[str, Value] | None
) -> ProjectDetail:
    server = check_server(server)
    given = check_token(token or stored_token(server), server)
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise UsageError(f"{printable(name)!r} is no project name")
    payload: dict[str, object] | None = None if body is None else dict(body)

    async def main() -> Reply:
        return await call(method, f"{server}/v1/projects/{name}", token=given, body=payload)

    try:
        reply = trio.run(main)
    except Unavailable as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from None
    match reply.status:
        case 200:
            try:
                return msgspec.json.decode(reply.body, type=ProjectDetail)
            except msgspec.DecodeError:
                pass
        case 401:
            raise Exit(ExitCode.UNAUTHORIZED, f"{server} refuses the token{reply.detail}")
        case 403:
            raise Exit(ExitCode.FORBIDDEN, f"project {name} cannot be changed with this token{reply.detail}")
        case 404:
            raise Exit(ExitCode.FORBIDDEN, f"you have no project {name}")
        case 422:
            raise UsageError(f"{server} refuses this{reply.detail}")
        case _:
            pass
    raise Exit(ExitCode.UNREACHABLE, f"{server} answered {reply.status}{reply.detail}")


def _print(project: ProjectDetail, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(msgspec.to_builtins(project)))
        return
    tunnel = printable(project.tunnel.holder) if project.tunnel else "nobody is connected"
    say(f"project                {printable(project.name)}")
    say(f"URL                    {printable(project.public_url)}")
    say(f"tunnel                 {tunnel}")
    say(f"waiting                {_waiting(project.backlog)}")
    for key, value in project.policy.items():
        say(f"{printable(key):<22} {printable(_shown(key, value))}")


def _waiting(backlog: Backlog | None) -> str:
    if backlog is None:
        return "unknown: the queue does not answer"
    if not backlog.count:
        return "nothing"
    now = datetime.now(UTC)
    waited = duration(max(0.0, (now - (backlog.oldest_at or now)).total_seconds()))
    return f"{backlog.count} ({size(backlog.bytes)}, the oldest for {waited})"


def _shown(key: str, value: Value) -> str:
    kind = KEYS.get(key, "text")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ",".join(value)
    if value is None or value == "":
        return "(default)"
    if kind == "bytes" and isinstance(value, (int, float)):
        return size(int(value))
    if kind == "time" and isinstance(value, (int, float)):
        unit = next((u for u in ("d", "h", "m") if value and value % _TIMES[u] == 0), "s")
        return f"{value / _TIMES[unit]:g}{unit}"
    return f"{value}"
