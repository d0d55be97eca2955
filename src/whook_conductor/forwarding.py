"""The head that goes to the far end: what the sender sent, minus the hop, plus what whook says about it.

Called by the ingress once for each request. Pure. Nothing of the sender's own fields is changed, reordered or
dropped but what belongs to the hop (RFC 9110 section 7.6.1); what is added comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from whook.chassis.introduction import Network, is_among
from whook.http1 import Headers, RequestHead, hop_by_hop

_VIA: Final = {b"1.0": (b"Via", b"1.0 whook"), b"1.1": (b"Via", b"1.1 whook")}
_ATTEMPT: Final = (b"Whook-Attempt", b"1")
_REPLAY: Final = (b"Whook-Replay", b"1")
_FOR: Final = b"x-forwarded-for"
_FOR_LENGTH: Final = len(_FOR)
_SCHEMES: Final = frozenset({"http", "https"})


class Forwarded(NamedTuple):
    """What the far end learns about a request's origin."""

    client: str
    scheme: str
    headers: Headers


class Forwarding:
    """Builds heads for the requests of one connection."""

    __slots__ = ("_for", "_host", "_proto", "_proxies", "_scheme", "trusted")

    def __init__(self, host: str, scheme: str, *, trusted: bool, proxies: Sequence[Network] = ()) -> None:
        """`host` is the peer's address. A `trusted` peer's own X-Forwarded-* fields are believed.

        So are those of the `proxies` that stand in front of it.
        """
        self._host = host
        self._scheme = scheme
        self.trusted = trusted
        self._proxies = proxies
        self._for = (b"X-Forwarded-For", host.encode("ascii"))
        self._proto = (b"X-Forwarded-Proto", scheme.encode("ascii"))

    def forward(
        self, head: RequestHead, event_id: str, *, upgrade: bool, attempt: int = 1, replay: bool = False
    ) -> Forwarded:
        """Return the fields to send on, and who is asking. `upgrade` keeps the wish for another protocol."""
        headers = hop_by_hop(head.headers, upgrade=upgrade)
        nth = _ATTEMPT if attempt == 1 else (b"Whook-Attempt", b"%d" % attempt)
        headers += ((b"Whook-Event-Id", event_id.encode("ascii")), nth)
        if replay:
            headers.append(_REPLAY)
        if self.trusted:
            return self._forward_trusted(head, headers)
        headers += (self._for, (b"X-Forwarded-Host", head.host), self._proto, _VIA[head.version])
        return Forwarded(self._host, self._scheme, headers)

    def _forward_trusted(self, head: RequestHead, headers: Headers) -> Forwarded:
        told = {name.lower(): value for name, value in headers}
        client = self._client(headers)
        scheme = told.get(b"x-forwarded-proto", b"").strip().lower().decode("ascii", "replace")
        headers.append(self._for)
        if b"x-forwarded-host" not in told:
            headers.append((b"X-Forwarded-Host", head.host))
        if scheme not in _SCHEMES:
            scheme = self._scheme
            headers.append(self._proto)
        headers.append(_VIA[head.version])
        return Forwarded(client or self._host, scheme, headers)

    def _client(self, headers: Headers) -> str:
        """Return the last address in X-Forwarded-For that is no proxy's: anybody may write those before."""
        lines = [value for name, value in headers if len(name) == _FOR_LENGTH and name.lower() == _FOR]
        if len(lines) == 1 and b"," not in lines[0]:
            return lines[0].strip().decode("ascii", "replace")  # the usual case
        told = [part.strip().decode("ascii", "replace") for part in b",".join(lines).split(b",")]
        client = ""
        while told and (not client or is_among(client, self._proxies)):
            client = told.pop() or client
        return client
