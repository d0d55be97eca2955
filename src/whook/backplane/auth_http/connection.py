"""Requests to the auth service: bounded in number, in time and in size, and told apart when they fail.

Those that come at the same time share a call, since a call costs more than what it asks: see `_batch`.

Owns the httpx client. `client` and `keys` call it. Whatever keeps auth from answering leaves it as
Unavailable. It must never log or raise what it sends: tokens and the service key are in there.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from whook.backplane.ports import AuthDenied, DenialReason, Unavailable
from whook.backplane.ports import auth_messages as messages
from whook.backplane.ports.auth import CALLER
from whook.chassis.batches import Batcher
from whook.chassis.logs import get_logger

DEADLINE: Final = 5.0
"""Seconds that a call may take with everything: auth answers in milliseconds, one that does not is away."""
CONNECTIONS: Final = 4
"""Calls under way at once. A call costs about 1.3 ms here (docs/performance.md): more would only queue, and
what queues shares the next call."""
WAITING: Final = 1024
"""Requests that may wait for their turn. Beyond it auth counts as away: a storm must not gather here."""
BATCH: Final = 64
"""Requests in one call at most: auth answers as many in about 10 ms."""
BATCH_BYTES: Final = 49_152
"""The same in bytes; auth takes 64 KiB."""
MAX_ANSWER: Final = 1_048_576
"""Longest answer in bytes: the names of some ten thousand projects."""

_FIRST_ERROR: Final = 400
_REASONS: Final = frozenset(get_args(DenialReason))
_log = get_logger("whook.auth_http")


@dataclass(frozen=True, slots=True)
class _Question:
    """One request, and the Trio time by which it must be answered."""

    path: str
    caller: str
    body: bytes
    until: float


class AuthConnection:
    """The auth service as a place to send requests to."""

    def __init__(
        self, client: httpx.AsyncClient, nursery: trio.Nursery, *, deadline: float = DEADLINE
    ) -> None:
        self._client = client
        self._deadline = deadline
        # In a nursery: a client that goes away must not cut off what is asked for others with it.
        self._batches: Batcher[_Question, bytes] = Batcher(
            self._work, largest=BATCH, at_once=CONNECTIONS, nursery=nursery
        )

    async def get(self, path: str) -> bytes:
        """Return what is there. Raises Unavailable."""
        return await self._call("GET", path, None, "", trio.current_time() + self._deadline)

    async def post(self, path: str, body: msgspec.Struct) -> bytes:
        """Return the answer to ``body``. Raises Unavailable, AuthDenied and ValueError as auth tells."""
        if self._batches.waiting >= WAITING:
            raise Unavailable("too many requests wait for the auth service")
        until = trio.current_time() + self._deadline
        return await self._batches.ask(_Question(path, CALLER.get(), msgspec.json.encode(body), until))

    async def _work(self, questions: Sequence[_Question]) -> list[bytes | Exception]:
        """Ask what has gathered. One question alone goes out as it is."""
        found: list[bytes | Exception] = []
        while len(found) < len(questions):
            part = _first_part(questions[len(found) :])
            try:
                if len(part) == 1:
                    only = part[0]
                    found.append(await self._call("POST", only.path, only.body, only.caller, only.until))
                else:
                    found += await self._batch(part)
            except (Unavailable, AuthDenied, ValueError) as error:
                found += [error] * len(part)
        return found

    async def _batch(self, questions: Sequence[_Question]) -> list[bytes | Exception]:
        items = [
            messages.BatchedRequest(path=one.path, caller=one.caller, body=msgspec.Raw(one.body))
            for one in questions
        ]
        # The one that has waited longest; auth that does not answer it in time answers nobody.
        answer = await self._call("POST", messages.BATCH, msgspec.json.encode(items), "", questions[0].until)
        try:
            found = msgspec.json.decode(answer, type=list[messages.BatchedAnswer])
        except msgspec.MsgspecError:
            found = []
        if len(found) != len(questions):
            raise Unavailable("the auth service does not answer what it was asked: upgrade it first")
        return [
            bytes(one.body) if one.status < _FIRST_ERROR else _error(one.status, bytes(one.body))
            for one in found
        ]

    async def _call(self, method: str, path: str, body: bytes | None, caller: str, until: float) -> bytes:
        headers = {"accept-encoding": "identity"}
        if body is not None:
            headers["content-type"] = "application/json"
        if caller:
            headers[messages.CALLER] = caller
        try:
            with trio.fail_at(until):
                async with self._client.stream(method, path, content=body, headers=headers) as response:
                    answer = await _read(response)
        except trio.TooSlowError:
            raise Unavailable(f"the auth service does not answer within {self._deadline:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the auth service cannot be reached: {error or type(error).__name__}"
            ) from None
        if response.is_success:
            return answer
        raise _error(response.status_code, answer)


def _first_part(questions: Sequence[_Question]) -> Sequence[_Question]:
    """Return as many of the first questions as auth takes in one call."""
    size = 0
    for count, question in enumerate(questions):
        size += len(question.body) + 200
        if size > BATCH_BYTES and count:
            return questions[:count]
    return questions


async def _read(response: httpx.Response) -> bytes:
    found = bytearray()
    async for part in response.aiter_bytes():
        # Read to its end, which the deadline bounds: httpx cannot leave an answer in the middle cleanly.
        if len(found) <= MAX_ANSWER:
            found += part
    if len(found) > MAX_ANSWER:
        raise Unavailable("the auth service answers with more than it should")
    return bytes(found)


def _error(status: int, answer: bytes) -> Exception:
    """Return what auth's refusal means to the caller of the port."""
    try:
        problem = msgspec.json.decode(answer, type=messages.Problem)
    except msgspec.MsgspecError:
        return Unavailable(f"the auth service answers with status {status}")
    slug = problem.type.rpartition(":")[2]
    if slug == messages.DENIED and problem.reason in _REASONS:
        return AuthDenied(cast("DenialReason", problem.reason), problem.detail)
    if slug == messages.BAD_NAME:
        return ValueError(problem.detail)
    if slug == messages.BAD_SERVICE_KEY:
        # Nothing that a person at a tunnel can mend, hence an outage to them and an error to the operator.
        _log.error("the auth service refuses this service's key", status=status)
        return Unavailable("the auth service refuses the service key")
    return Unavailable(f"the auth service answers with status {status}: {slug or 'no reason'}")


def check_auth_url(url: str) -> str:
    """Return ``url`` without a slash at its end. Raises ValueError unless it is http or https."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        raise ValueError("give the address of the auth service, such as https://auth.example.com")
    return url.rstrip("/")


@asynccontextmanager
async def open_connection(
    url: str, service_key: str = "", *, ca_file: Path | None = None, deadline: float = DEADLINE
) -> AsyncGenerator[AuthConnection, None]:
    """Open a connection to the auth service at ``url``; it need not be there yet.

    ``ca_file`` holds the certificates to trust in place of the system's. Raises ValueError for a bad URL, and
    OSError if ``ca_file`` cannot be read.
    """
    base = check_auth_url(url)
    secure = base.startswith("https:")
    verify = ssl.create_default_context(cafile=ca_file) if secure else False
    client = httpx.AsyncClient(
        base_url=base,
        verify=verify,
        headers={messages.SERVICE_KEY: service_key} if service_key else {},
        timeout=deadline,
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        follow_redirects=False,
        trust_env=False,
    )
    async with client, trio.open_nursery() as nursery:
        yield AuthConnection(client, nursery, deadline=deadline)
        nursery.cancel_scope.cancel(reason="the connection to auth is closed")
