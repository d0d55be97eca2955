"""How what the ports refuse becomes an answer of the API: one mapping for all of its modules.

Used by `control`, `events` and `replays`. It decides nothing; the text comes from whoever refused.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from whook.backplane.ports import Auth, AuthDenied, Principal, Unavailable
from whook.chassis.logs import get_logger
from whook.chassis.problem import ProblemError
from whook.chassis.sealing import SealError

_RETRY_AFTER: Final = (2, 8)
"""Seconds, drawn at random, that spread the clients of a full or restarting cluster."""

_log = get_logger("whook.conductor.api")


def busy(slug: str, title: str, detail: str) -> ProblemError:
    """Return the answer to what may work later."""
    return ProblemError(503, slug, title, detail, retry_after=random.randint(*_RETRY_AFTER))  # noqa: S311


def unknown_project() -> ProblemError:
    """Return the one answer for a project that does not exist and for one that is another's."""
    return ProblemError(404, "unknown-project", "Unknown project", "You have no project of this name.")


async def authenticate(auth: Auth, token: str) -> Principal:
    """Return who asks. Raises `ProblemError` without a token, and AuthDenied."""
    if not token:
        raise ProblemError(401, "unauthorized", "Unauthorized", "Send an access token as a Bearer token.")
    return await auth.authenticate(token)


@contextmanager
def refusals() -> Generator[None]:
    """Turn what the ports refuse into problems."""
    try:
        yield
    except AuthDenied as denied:
        if denied.reason == "hidden":
            raise unknown_project() from None
        if denied.reason == "forbidden":
            raise ProblemError(403, "forbidden", "Forbidden", denied.detail) from None
        raise ProblemError(401, "unauthorized", "Unauthorized", denied.detail, reason=denied.reason) from None
    except SealError as error:
        # Nothing that whoever asks can mend, hence an outage to them and an error to the operator.
        _log.error("what is stored cannot be decrypted", error=str(error))
        raise busy(
            "unavailable", "Temporarily unavailable", "The server cannot read what it stored."
        ) from None
    except Unavailable:
        raise busy("unavailable", "Temporarily unavailable", "The server cannot decide this now.") from None
