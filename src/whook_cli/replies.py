"""How a refusal of the server's API ends a command: one answer for all that ask it.

Called by `account_api`, `admin_api` and `events_api`. Knows statuses and problem types, and nothing of what
was asked. Must never print a token.
"""

from collections.abc import Collection
from typing import TypeVar

import msgspec

from whook_cli.api import Reply
from whook_cli.exits import Exit, ExitCode, UsageError

T = TypeVar("T")


class _Problem(msgspec.Struct):
    type: str = ""


def check(reply: Reply, *, things: Collection[str] = (), no_api: str = "", forbidden: str = "") -> None:
    """Return if the reply is what was asked for. Raises `Exit`, and `UsageError` for what was asked wrong.

    `things` are the slugs of problems that say that something is not there; any other 404 then means
    `no_api`. `forbidden` is the hint for whoever may not.
    """
    match reply.status:
        case status if 200 <= status < 300:
            return
        case 401:
            raise Exit(ExitCode.UNAUTHORIZED, f"the token is refused{reply.detail}", hint="run whook login")
        case 403:
            raise Exit(ExitCode.FORBIDDEN, f"not allowed{reply.detail}", hint=forbidden)
        case 404 | 405 if things and slug(reply) not in things:
            raise Exit(ExitCode.UNREACHABLE, f"this is no whook API, or its server {no_api}")
        case 404 | 410 if things:
            raise Exit(ExitCode.NOT_FOUND, reply.detail.removeprefix(": ") or "there is none")
        case status if 400 <= status < 500:
            raise UsageError(f"refused{reply.detail or f' ({status})'}")
        case status:
            raise Exit(ExitCode.UNREACHABLE, f"the server answered {status}{reply.detail}")


def slug(reply: Reply) -> str:
    """Return what kind of problem a reply tells of; empty if it tells none (RFC 9457)."""
    try:
        return msgspec.json.decode(reply.body[:65_536], type=_Problem).type.rpartition(":")[2]
    except msgspec.DecodeError:
        return ""


def decode(reply: Reply, kind: type[T]) -> T:
    """Return what a reply that was checked holds. Raises `Exit`."""
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.DecodeError:
        raise Exit(ExitCode.UNREACHABLE, "the server answered something that is no whook API") from None
