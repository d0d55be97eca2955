"""Exports: curl commands that are run and compared byte for byte, HAR files checked by a schema."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.events import content, delivery, exported
from tests.support.har import HAR_SCHEMA
from tests.support.origin import Origin, ok
from tests.support.rawhttp import Message
from whook_cli.events_api import Answered
from whook_cli.events_export import Exported, as_curl, as_har, as_raw
from whook_cli.target import parse_target

HOST = (b"Host", b"shop.hooks.example.com")
BASH = shutil.which("bash")
CURL = shutil.which("curl")
with_curl = pytest.mark.skipif(not (BASH and CURL), reason="needs bash and curl")


FIELD_BYTES = st.sampled_from([byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127)])
VALUES = st.lists(FIELD_BYTES, max_size=20).map(lambda value: bytes(value).strip(b" \t"))


def length(body: bytes) -> tuple[bytes, bytes]:
    return (b"Content-Length", b"%d" % len(body))


def event(body: bytes, *headers: tuple[bytes, bytes], **more: Any) -> Exported:
    return exported([HOST, *headers, length(body)], body, **more)


CASES = {
    "JSON": event(b'{"a": "it\'s"}\n', (b"Content-Type", b"application/json")),
    "UTF-8": event("Größe 漢字\n".encode(), (b"content-type", b"text/plain; charset=utf-8")),
    "binary": event(bytes(range(256)) * 3, (b"Content-Type", b"application/octet-stream")),
    "a NUL": event(b"a\0b"),
    "looks like a file": event(b"@/etc/passwd"),
    "CR LF at its end": event(b"a=1\r\n\r\n"),
    "looks like the end of the text": event(b"WHOOK\n\xff"),
    "large": event(b"x" * 3_000_000, (b"Content-Type", b"text/plain")),
    "large and binary": event(b"\xfe" * 200_000),
    "no body": exported([HOST, (b"Content-Length", b"0")]),
    "no body and no length": exported([HOST, (b"Accept", b"*/*")], method=b"GET", target=b"/?x=[1]{2}"),
    "odd field names": event(b"1", (b"x!#$%&'*+.^_`|~Y", b"1"), (b"X-DUP", b"1"), (b"x-dup", b"2")),
    "values in bytes": event(b"1", (b"X-L", b"caf\xe9"), (b"X-Quote", b"a'b\"c\\d$e`f"), (b"X-Tab", b"a\tb")),
    "an empty value": event(b"1", (b"X-Empty", b""), (b"X-After", b"1")),
    "host last, in its own case": exported([(b"A", b"1"), length(b"1"), (b"hOsT", b"x.example")], b"1"),
    "curl's own fields": event(
        b"1", (b"user-agent", b"GitHub-Hookshot/1"), (b"X-Between", b"1"), (b"ACCEPT", b"*/*")
    ),
    "target as it was": event(b"1", target=b"/a/../b//c/%7e/%2F?q=a%20b&&x=#"),
    "another method": event(b"1", method=b"PATCH"),
    "chunked": exported([HOST, (b"Transfer-Encoding", b"chunked")], b"\x00chunks" * 9),
    "HTTP/1.0": exported([HOST, length(b"1")], b"1", version=b"1.0"),
}  # fmt: skip


def fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, value.strip(b" ")) for name, _, value in (line.partition(b":") for line in lines)]


def run(script: bytes) -> bytes:
    assert BASH is not None
    done = subprocess.run([BASH], input=script, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def sent(origin: Origin, *events: Exported) -> list[Message]:
    """Run the exported commands; give what the origin received."""
    origin.reset()
    origin.script(*[ok] * len(events))
    said = run(as_curl(events, parse_target(origin.url)))
    origin.check()
    assert said.count(b"HTTP/1.1 200 OK") == len(events)
    return list(origin.received)


def assert_same(message: Message, event: Exported) -> None:
    head, _, body = event.raw.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    assert message.start_line == start
    assert fields(message.lines) == fields(lines)
    data = event.event.request.body.data()
    assert message.body == data
    assert body == data or b"chunked" in head


@with_curl
@pytest.mark.parametrize("name", CASES)
def test_curl_sends_the_same_bytes(name: str, origin: Origin) -> None:
    (message,) = sent(origin, CASES[name])
    assert_same(message, CASES[name])


@with_curl
def test_several_events_are_sent_in_their_order(origin: Origin) -> None:
    events = [event(b"%d" % number) for number in range(5)]
    assert [message.body for message in sent(origin, *events)] == [b"0", b"1", b"2", b"3", b"4"]


@with_curl
def test_head_is_a_head_request(origin: Origin) -> None:
    (message,) = sent(origin, exported([HOST, (b"X", b"1")], method=b"HEAD"))
    assert message.start_line == b"HEAD /hook HTTP/1.1"
    assert fields(message.lines) == [HOST, (b"X", b"1")]


@with_curl
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.lists(VALUES))
def test_whatever_the_bytes_are(origin: Origin, body: bytes, values: list[bytes]) -> None:
    one = event(body, *((b"X-%d" % n, value) for n, value in enumerate(values)))
    (message,) = sent(origin, one)
    assert_same(message, one)


@pytest.mark.parametrize("name", CASES)
def test_a_script_is_harmless_text(name: str) -> None:
    script = as_curl([CASES[name]], parse_target("3000")).decode()
    assert all(char.isprintable() or char in "\n\t" for char in script)


def test_raw_is_what_came() -> None:
    assert as_raw([CASES["JSON"], CASES["binary"]]) == CASES["JSON"].raw + CASES["binary"].raw


# -- HAR


def har(*events: Exported) -> dict[str, Any]:
    text = as_har(events)
    assert text.isascii()
    archive: dict[str, Any] = json.loads(text)
    jsonschema_rs.validator_for(HAR_SCHEMA).validate(archive)
    return archive


@pytest.mark.parametrize("name", CASES)
def test_every_archive_is_valid(name: str) -> None:
    (entry,) = har(CASES[name])["log"]["entries"]
    assert entry["request"]["bodySize"] == CASES[name].event.body_size


def test_the_schema_finds_faults() -> None:
    archive = har(CASES["JSON"])
    del archive["log"]["entries"][0]["timings"]["wait"]
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validator_for(HAR_SCHEMA).validate(archive)


def test_an_archive_says_what_was_sent_and_answered() -> None:
    one = exported(
        [HOST, (b"Content-Type", b"text/plain"), (b"X-Latin", b"\xe9"), length(b"\xff\x00")],
        b"\xff\x00",
        target=b"/hook?a=1&b=%20&c",
        history=[
            delivery(status=None, response=None, to_head=None, problem="tunnel-lost", duration=1.5),
            delivery(
                attempt=2,
                origin="buffered",
                response=Answered(302, "Found", [("Location", "/x")], content(b"\xfe"), []),
                status=302,
            ),
        ],
    )
    first, second = har(one)["log"]["entries"]
    request = first["request"]
    assert request["url"] == "https://shop.hooks.example.com/hook?a=1&b=%20&c"
    assert request["queryString"] == [
        {"name": "a", "value": "1"},
        {"name": "b", "value": " "},
        {"name": "c", "value": ""},
    ]
    assert {"name": "X-Latin", "value": "\xe9"} in request["headers"]
    assert request["postData"] == {
        "mimeType": "text/plain",
        "params": [],
        "text": "/wA=",
        "_encoding": "base64",
    }
    assert (first["response"]["status"], first["comment"], first["time"]) == (0, "tunnel-lost", 1500.0)
    assert second["response"]["redirectURL"] == "/x"
    assert second["response"]["content"] == {
        "size": 1,
        "mimeType": "",
        "text": "/g==",
        "encoding": "base64",
    }
    assert second["timings"] == {"send": 0, "wait": 12.0, "receive": 22.0}
    assert datetime.fromisoformat(second["startedDateTime"]) == datetime(2026, 11, 23, 20, 0, 0, 500_000, UTC)
    assert (second["_event"], second["_attempt"], second["_origin"]) == (one.event.id, 2, "buffered")


def test_an_event_without_a_delivery_has_an_entry() -> None:
    (entry,) = har(exported([HOST, length(b"1")], b"1", history=[]))["log"]["entries"]
    assert entry["response"]["status"] == 0
