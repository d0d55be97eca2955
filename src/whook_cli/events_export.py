"""Events in forms that other tools read: curl commands, a HAR file, HTTP messages.

Used by `whook events export`. Pure. A curl command sends the very bytes: the target as it was, the fields in
their order and case with none of curl's own, the body. It is printable text whatever the event holds: what is
not becomes an escape of the shell, or base64.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from whook_cli.about import version_line
from whook_cli.events_api import Content, Delivery, EventDetail, Pairs
from whook_cli.events_message import Message, read_message
from whook_cli.target import Target

_INLINE: Final = 32_768
"""Longest body in bytes that is an argument of the command; systems allow 128 KiB for one."""
_OWN: Final = ("accept", "content-type", "expect", "user-agent")
"""Fields that curl adds by itself."""
_LINE: Final = 76


@dataclass(frozen=True, slots=True)
class Exported:
    """An event, and the message that it was."""

    event: EventDetail
    raw: bytes


def as_raw(events: Sequence[Exported]) -> bytes:
    """Give the messages, one behind the other."""
    return b"".join(one.raw for one in events)


# -- curl


def as_curl(events: Sequence[Exported], target: Target) -> bytes:
    """Give a shell script (bash, zsh, ksh) that sends the events to `target`, in their order."""
    return "\n".join(_curl(one, target) for one in events).encode()


def _curl(one: Exported, target: Target) -> str:
    message = read_message(one.raw)
    words = ["curl -q", "--silent --show-error --include --globoff --noproxy '*'"]
    words.append("--http1.0" if message.version == b"1.0" else "--http1.1")
    words.append("--head" if message.method == b"HEAD" else f"--request {_quote(message.method)}")
    words.append(f"--request-target {_quote(target.join(message.target))}")
    present = {name.lower() for name, _ in message.headers}
    # Taken out first: curl would put its own Host in front of all others.
    words += ["--header 'Host:'"]
    words += [f"--header '{name}:'" for name in _OWN if name.encode() not in present]
    for name, value in message.headers:
        words.append("--header " + _quote(name + b": " + value if value else name + b";"))
    before, argument, after = _body(message)
    words += argument
    base = f"{target.scheme}://{target.authority.decode('ascii')}/"
    words.append(_quote(base.encode("ascii")))
    note = "; curl cannot send its trailers" if message.trailers else ""
    return f"# {one.event.id}{note}\n{before}" + " \\\n  ".join(words) + f"{after}\n"


def _body(message: Message) -> tuple[str, list[str], str]:
    """Give what stands before the command, its words about the body, and what stands behind it."""
    body = message.body
    if not body:
        chunked = any(name.lower() == b"transfer-encoding" for name, _ in message.headers)
        return "", ["--data-binary ''"] if chunked else [], ""
    if len(body) <= _INLINE and not body.startswith(b"@") and _is_plain(body):
        return "", [f"--data-binary {_single(body.decode())}"], ""
    text = base64.b64encode(body).decode("ascii")
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return (
        "base64 -d <<'WHOOK' |\n" + "\n".join(lines) + "\nWHOOK\n",
        ["--data-binary @-"],
        "",
    )


def _is_plain(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\n\t" for char in text)


def _single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _quote(data: bytes) -> str:
    """Give one word of the shell: in plain quotes where that is enough, else with escapes ($'…')."""
    if data.isascii() and data.decode("ascii").isprintable():
        return _single(data.decode("ascii"))
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in data
    )
    # An escape ends after two digits, whatever follows: \x takes one or two.
    return f"$'{escaped}'"


# -- HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/)


def as_har(events: Sequence[Exported]) -> bytes:
    """Give an HTTP archive: an entry for each delivery, or one without a response where there was none."""
    name, _, version = version_line().partition(" ")
    entries: list[dict[str, object]] = []
    for one in events:
        request = _har_request(one)
        deliveries: list[Delivery | None] = [*one.event.history] or [None]
        entries += [_har_entry(one.event, request, delivery) for delivery in deliveries]
    log = {"version": "1.2", "creator": {"name": name, "version": version}, "entries": entries}
    return json.dumps({"log": log}, indent=2).encode("ascii") + b"\n"


def _har_entry(
    event: EventDetail, request: dict[str, object], delivery: Delivery | None
) -> dict[str, object]:
    began = delivery.began_at if delivery is not None else event.received_at
    total = delivery.duration * 1000 if delivery is not None else 0.0
    wait = delivery.to_head * 1000 if delivery is not None and delivery.to_head is not None else total
    entry: dict[str, object] = {
        "startedDateTime": began.isoformat(timespec="milliseconds"),
        "time": round(total, 3),
        "request": request,
        "response": _har_response(delivery),
        "cache": {},
        "timings": {"send": 0, "wait": round(wait, 3), "receive": round(max(0.0, total - wait), 3)},
        "_event": event.id,
        "_state": event.state,
    }
    if delivery is not None:
        entry |= {"_attempt": delivery.attempt, "_origin": delivery.origin}
        if delivery.problem:
            entry["comment"] = delivery.problem
    return entry


def _har_request(one: Exported) -> dict[str, object]:
    message = read_message(one.raw)
    headers = _pairs(message)
    host = next((value for name, value in headers if name.lower() == "host"), one.event.project)
    target = message.target.decode("latin-1")
    url = target if "://" in target else f"{one.event.request.scheme}://{host}{target}"
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True, encoding="utf-8", errors="replace")
    request: dict[str, object] = {
        "method": message.method.decode("latin-1"),
        "url": url,
        "httpVersion": f"HTTP/{message.version.decode('ascii')}",
        "cookies": [],
        "headers": _har_fields(headers),
        "queryString": _har_fields(query),
        "headersSize": message.head_size,
        "bodySize": len(message.body),
    }
    if message.body:
        kind = next((value for name, value in headers if name.lower() == "content-type"), "")
        request["postData"] = {"mimeType": kind, "params": [], **_har_text(message.body, "_encoding")}
    return request


def _har_response(delivery: Delivery | None) -> dict[str, object]:
    answer = delivery.response if delivery is not None else None
    fields = answer.headers if answer is not None else []
    kind = next((value for name, value in fields if name.lower() == "content-type"), "")
    where = next((value for name, value in fields if name.lower() == "location"), "")
    body = answer.body if answer is not None else Content(0, "utf-8", "")
    data = body.data()
    return {
        "status": (delivery.status or 0) if delivery is not None else 0,
        "statusText": answer.reason if answer is not None else "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _har_fields(fields),
        "content": {
            "size": body.size,
            "mimeType": kind,
            **({} if data is None else _har_text(data, "encoding")),
        },
        "redirectURL": where,
        "headersSize": -1,
        "bodySize": body.size if answer is not None else -1,
    }


def _pairs(message: Message) -> Pairs:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.headers]


def _har_fields(pairs: Pairs) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _har_text(data: bytes, key: str) -> dict[str, str]:
    """Give a body as text; where it is none, in base64, which `key` says."""
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(data).decode("ascii"), key: "base64"}
