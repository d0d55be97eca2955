"""The login pages: log in, look at what a device asks for, approve or deny, log out. They need no script.

Mounted into the auth API. Every form carries a token that belongs to its cookie, and a form that another site
sends is refused (CSRF), another project's included, which browsers count as the same site; each login gets a
new cookie (no session fixation); the only place to which a login leads is /device. Refusals are audited.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from whook.backplane.ports import Unavailable
from whook_auth import html
from whook_auth.access import Service
from whook_auth.accounts import Browser, LoginFailedError, form_token
from whook_auth.device import read_user_code
from whook_auth.forms import BadFormError, read_form
from whook_auth.parts import Parts
from whook_auth.passwords import PasswordsBusyError
from whook_auth.throttle import ThrottledError

SESSION = "whook_session"
"""Cookie of a browser that has logged in."""
BEFORE = "whook_login"
"""Cookie of a browser that has not logged in: its login form belongs to it."""


class _ForgedError(Exception):
    """The form does not come from a page of ours."""


def build_pages() -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/", _start, methods=["GET"])
    router.add_api_route("/login", _show_login, methods=["GET"])
    router.add_api_route("/login", _contained(_log_in), methods=["POST"])
    router.add_api_route("/logout", _contained(_log_out), methods=["POST"])
    router.add_api_route("/device", _contained(_show_device), methods=["GET"])
    router.add_api_route("/device", _contained(_decide), methods=["POST"])
    return router


async def _start() -> Response:
    return _redirect("/device")


async def _show_login(parts: Service, user_code: Annotated[str, Query()] = "") -> Response:
    return _login_page(parts, user_code=read_user_code(user_code))


def _login_page(
    parts: Parts, error: str = "", *, name: str = "", user_code: str = "", status: int = 200
) -> Response:
    before = secrets.token_urlsafe(32)
    response = _page(html.login(error, form_token(before), name, user_code), status)
    _set_cookie(parts, response, BEFORE, before)
    return response


async def _log_in(request: Request, parts: Parts) -> Response:
    form = await read_form(request)
    _check_form(request, parts, form, _cookie(request, parts, BEFORE))
    user_code = read_user_code(form.get("user_code", ""))
    name = form.get("name", "")
    try:
        browser = await parts.accounts.log_in(name, form.get("password", ""))
    except LoginFailedError:
        error = "Name and password do not belong together."
        return _login_page(parts, error, name=name, user_code=user_code, status=403)
    except ThrottledError as throttled:
        error = f"Too many attempts. Try again in {throttled.retry_after} s."
        response = _login_page(parts, error, name=name, user_code=user_code, status=429)
        response.headers["retry-after"] = str(throttled.retry_after)
        return response
    response = _redirect("/device" + (f"?{urlencode({'user_code': user_code})}" if user_code else ""))
    _set_cookie(parts, response, SESSION, browser.cookie)
    _drop_cookie(parts, response, BEFORE)
    return response


async def _log_out(request: Request, parts: Parts) -> Response:
    browser = await _browser(request, parts)
    form = await read_form(request)
    if browser is not None:
        _check_form(request, parts, form, browser.cookie)
        await parts.accounts.log_out(browser)
    response = _redirect("/login")
    _drop_cookie(parts, response, SESSION)
    return response


async def _show_device(request: Request, parts: Parts) -> Response:
    typed = request.query_params.get("user_code", "")
    browser = await _browser(request, parts)
    if browser is None:
        return _redirect("/login" + (f"?{urlencode({'user_code': read_user_code(typed)})}" if typed else ""))
    user, token = browser.account.name, browser.form_token
    if not typed:
        return _page(html.ask_code("", user, token))
    grant = await parts.devices.look_up(browser.account, typed)
    if grant is None:
        error = "No login waits under this code. It may have expired: run whook login again."
        return _page(html.ask_code(error, user, token), 404)
    return _page(
        html.confirm(user, token, grant.user_code, grant.client, grant.address, sorted(grant.scopes))
    )


async def _decide(request: Request, parts: Parts) -> Response:
    browser = await _browser(request, parts)
    if browser is None:
        await parts.auth.trail.refused("device.decide", detail="not logged in")
        return _redirect("/login")
    form = await read_form(request)
    _check_form(request, parts, form, browser.cookie)
    decision = form.get("decision")
    if decision not in ("approve", "deny"):
        raise BadFormError("approve or deny")
    user, token = browser.account.name, browser.form_token
    grant = await parts.devices.look_up(browser.account, form.get("user_code", ""))
    if grant is None or not await parts.devices.decide(
        browser.account, grant, approved=decision == "approve"
    ):
        error = "This login cannot be approved: it has expired, was decided before, or asks for too much."
        return _page(html.ask_code(error, user, token), 409)
    if decision == "approve":
        said = html.page(
            "Device connected",
            html.paragraph("You can close this page and go back to your terminal."),
            user=user,
            token=token,
        )
    else:
        said = html.page("Login denied", html.paragraph("The device gets nothing."), user=user, token=token)
    return _page(said)


def _contained(answer: Callable[[Request, Parts], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Return the endpoint for a page: what goes wrong becomes a page as well, and is audited."""

    async def endpoint(request: Request, parts: Service) -> Response:
        try:
            return await answer(request, parts)
        except _ForgedError:
            await parts.auth.trail.refused("form", target=request.url.path, detail="form of another site")
            error = "The form does not belong to this browser's session. Go back, reload the page, try again."
            return _problem("That did not work", error, 403)
        except BadFormError as bad:
            return _problem("That did not work", f"{bad}.", 400)
        except ThrottledError as throttled:
            response = _problem("Too many attempts", f"Try again in {throttled.retry_after} s.", 429)
            response.headers["retry-after"] = str(throttled.retry_after)
            return response
        except (Unavailable, PasswordsBusyError):
            response = _problem("Not now", "The server cannot do this now. Try again in a moment.", 503)
            response.headers["retry-after"] = "5"
            return response

    return endpoint


async def _browser(request: Request, parts: Parts) -> Browser | None:
    return await parts.accounts.browser(_cookie(request, parts, SESSION))


def _check_form(request: Request, parts: Parts, form: dict[str, str], cookie: str) -> None:
    """Raise _ForgedError unless the form comes from a page that was made for this cookie."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    ours = {parts.public_url, f"http://{host}", f"https://{host}"}
    if site not in ("same-origin", "none") or (origin is not None and origin not in ours):
        raise _ForgedError
    given = form.get("csrf", "")
    if not cookie or not hmac.compare_digest(given.encode(), form_token(cookie).encode()):
        raise _ForgedError


def _is_secure(parts: Parts) -> bool:
    return parts.public_url.startswith("https:")


def _full_name(parts: Parts, name: str) -> str:
    # With the prefix no other host of the base domain, so no project, can set it (RFC 6265bis 4.1.3.2).
    return f"__Host-{name}" if _is_secure(parts) else name


def _cookie(request: Request, parts: Parts, name: str) -> str:
    return request.cookies.get(_full_name(parts, name), "")


def _set_cookie(parts: Parts, response: Response, name: str, value: str) -> None:
    response.set_cookie(
        _full_name(parts, name), value, path="/", httponly=True, samesite="lax", secure=_is_secure(parts)
    )


def _drop_cookie(parts: Parts, response: Response, name: str) -> None:
    response.delete_cookie(
        _full_name(parts, name), path="/", httponly=True, samesite="lax", secure=_is_secure(parts)
    )


def _page(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=html.HEADERS)


def _problem(title: str, text: str, status: int) -> Response:
    return _page(html.page(title, html.paragraph(text, "bad")), status)


def _redirect(path: str) -> Response:
    return RedirectResponse(path, 303, headers={"cache-control": "no-store"})
