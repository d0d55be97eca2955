"""Who is asking the auth API, and how what is refused becomes an answer.

Used by the API's modules. Every refusal leaves here as a problem; auditing it is its origin's business.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from whook.backplane.ports import CALLER, AuthDenied, Principal, Unavailable
from whook.chassis.api import client_address
from whook.chassis.problem import ProblemError
from whook_auth.members import LastOwnerError
from whook_auth.parts import Parts
from whook_auth.passwords import PasswordsBusyError
from whook_auth.throttle import ThrottledError

_RETRY_AFTER: Final = (2, 8)
"""Seconds, drawn at random, that spread those who were told to come again."""

_bearer = HTTPBearer(auto_error=False, description="An access token (`whk_…`).")


def parts_of(request: Request) -> Parts:
    """Return the parts of the service that answers, and note from where it is asked."""
    parts: Parts = request.app.state.parts
    CALLER.set(client_address(request, parts.trusted_proxies))
    return parts


async def _parts(request: Request) -> Parts:
    return parts_of(request)


Service = Annotated[Parts, Depends(_parts)]


async def _principal(
    parts: Service, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if credentials is None:
        raise ProblemError(401, "unauthorized", "Unauthorized", "Send an access token as a Bearer token.")
    with refusals():
        return await parts.auth.authenticate(credentials.credentials)


Caller = Annotated[Principal, Depends(_principal)]


async def _admin(parts: Service, principal: Caller, request: Request) -> Principal:
    if "admin" not in principal.scopes:
        action = f"{request.method} {request.url.path}"
        await parts.auth.trail.refused("admin", actor=principal.user, target=action, detail="not an admin")
        raise ProblemError(403, "forbidden", "Forbidden", "This takes a token of the scope admin.")
    return principal


Admin = Annotated[Principal, Depends(_admin)]


@contextmanager
def refusals() -> Generator[None]:
    """Turn what the parts refuse into problems."""
    try:
        yield
    except AuthDenied as denied:
        if denied.reason == "forbidden":
            raise ProblemError(403, "forbidden", "Forbidden", denied.detail) from None
        raise ProblemError(401, "unauthorized", "Unauthorized", denied.detail, reason=denied.reason) from None
    except ThrottledError as throttled:
        raise ProblemError(
            429, "too-many-attempts", "Too many attempts", str(throttled), retry_after=throttled.retry_after
        ) from None
    except LastOwnerError:
        detail = "A project keeps at least one owner: make somebody else an owner first, or delete it."
        raise ProblemError(409, "last-owner", "Last owner", detail) from None
    except PasswordsBusyError:
        raise _busy("overloaded", "Too many logins at the same time.") from None
    except Unavailable:
        raise _busy("unavailable", "The server cannot decide this now.") from None
    except ValueError as error:
        raise ProblemError(422, "invalid-request", "Invalid request", f"{error}") from None


def _busy(slug: str, detail: str) -> ProblemError:
    seconds = random.randint(*_RETRY_AFTER)  # noqa: S311 - spreads load, keeps no secret
    return ProblemError(503, slug, "Temporarily unavailable", detail, retry_after=seconds)
