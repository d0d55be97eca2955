"""URLs, names, prefixes, cancelled calls: what lies between the backplane and Redis."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support.certificates import self_signed, server_context
from tests.support.claims import LONG, claim, relay, wait_message
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS, RouteMirror
from tests.support.redis_server import RedisServer
from whook.backplane.ports import (
    TOPIC_RELAYS,
    RelayGone,
    RelaySet,
    RouteGone,
    RouteSet,
    Unavailable,
    decode_relay_event,
)
from whook.backplane.redis import bridge, open_redis_backplane
from whook.backplane.redis.bridge import open_bridge
from whook.backplane.redis.scripts import Script

AWKWARD = [
    'quotes " and \\ backslashes \\" too',
    "line\r\nbreaks\tand \x00\x01\x1f\x7f",
    "Zoë 漢字 🦊 /slash/",
    '{"generation":7},"generation":8,',
    "%s %d %% [*?^-]",
    "",
    "x" * 5000,
]


async def check_works(url: str, **options: str) -> None:
    async with (
        open_redis_backplane(url, **options) as backplane,  # type: ignore[arg-type]
        backplane.bus.subscribe(*TOPICS) as subscription,
    ):
        mirror = RouteMirror(backplane, subscription)
        await backplane.directory.announce(relay(), LONG)
        route = await claim(backplane.directory)
        await mirror.catch_up()
        assert mirror.events == [RouteSet(route)]
        assert await backplane.directory.routes() == [route]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@localhost/",
        "redis://user:hun/ter2@localhost/",
        "redis://user:hunter2@localhost:port/",
        "redis://user:hunter2@localhost/?no_such_option=1",
        "redis://user:hunter2@localhost/?socket_timeout=x",
        "rediss://user:hunter2@localhost/?ssl_cert_reqs=hunter2",
        "",
    ],
)
async def test_impossible_urls_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(ValueError, match="URL of Redis") as refused:
        async with open_redis_backplane(url):
            pass
    assert "hun" not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_user_password_and_database_by_url(server: RedisServer) -> None:
    with server.client() as client:
        client.acl_setuser(
            "whook",
            enabled=True,
            passwords=["+p@ss/wörd"],
            keys=["whook:*"],
            reset_channels=True,
            channels=["whook:bus:*"],
            commands=[
                "+@read",
                "+@write",
                "+@scripting",
                "+@pubsub",
                "+@connection",
                "+select",
                "+info",
                "+time",
            ],
        )
        client.config_set("requirepass", "other")
        await check_works(server.url + "?db=3&username=whook&password=p%40ss%2Fw%C3%B6rd")
        async with open_redis_backplane(server.url + "?username=whook&password=wrong") as backplane:
            with pytest.raises(Unavailable) as refused:
                await backplane.directory.relays()
            assert "wrong" not in str(refused.value).replace("wrong number", "")


async def copy(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope) -> None:
    async for data in source:
        await sink.send_all(data)
    scope.cancel()


async def test_tls(server: RedisServer, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    distrusted = 0

    async def terminate_tls(stream: trio.SocketStream) -> None:
        nonlocal distrusted
        context = server_context(certificate)
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError:
            distrusted += 1
            return
        async with await trio.open_unix_socket(server.socket) as plain, trio.open_nursery() as nursery:
            nursery.start_soon(copy, tls, plain, nursery.cancel_scope)
            nursery.start_soon(copy, plain, tls, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, terminate_tls, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with trio.fail_after(DEADLINE):
            await check_works(f"rediss://localhost:{port}/?ssl_ca_certs={certificate}")
            async with open_redis_backplane(f"rediss://localhost:{port}/") as backplane:
                with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                    await backplane.directory.relays()
        nursery.cancel_scope.cancel()
    assert distrusted


async def test_prefixes_keep_installations_apart(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url, prefix="a*[b]?\\:") as one,
        open_redis_backplane(server.url, prefix="axxb?:") as two,
        one.bus.subscribe("t") as subscription,
    ):
        await two.directory.announce(relay(), LONG)
        assert await one.directory.relays() == []
        await two.bus.publish("t", b"theirs")
        await one.bus.publish("t", b"ours")
        assert await wait_message(subscription) == ("t", b"ours")


@pytest.mark.parametrize("text", AWKWARD)
async def test_any_text_goes_through_redis_and_its_events(server: RedisServer, text: str) -> None:
    async with (
        open_redis_backplane(server.url) as backplane,
        backplane.bus.subscribe(*TOPICS) as subscription,
        backplane.bus.subscribe(TOPIC_RELAYS) as relays,
    ):
        directory = backplane.directory
        mirror = RouteMirror(backplane, subscription)
        info = relay(text)
        await directory.announce(info, LONG)
        route = await directory.claim(
            project_id=text, project=text, relay_id=text, tunnel_id=text, instance=text, holder=text
        )
        again = await directory.claim(
            project_id=text, project=text, relay_id=text, tunnel_id="t", instance=text, holder=text
        )
        assert await directory.route(text) == again
        assert await directory.relays() == [info]
        assert await directory.release(text, again.generation)
        await directory.withdraw(text)
        await mirror.catch_up()
        assert mirror.events[:3] == [RouteSet(route), RouteSet(again), RouteGone(text, again.generation)]
        assert isinstance(mirror.events[3], RelayGone)
        assert decode_relay_event((await wait_message(relays))[1]) == RelaySet(info)
        assert decode_relay_event((await wait_message(relays))[1]) == mirror.events[3]


async def test_a_cancelled_call_leaves_no_late_answer_to_the_next(server: RedisServer) -> None:
    chance = random.Random(3)
    async with open_redis_backplane(server.url) as backplane:
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        routes = [await claim(directory, f"p{n}") for n in range(20)]
        cancelled = 0
        for route in routes * 15:
            with trio.move_on_after(chance.uniform(0, 0.0008)) as scope:
                await directory.route(chance.choice(routes).project_id)
            cancelled += scope.cancelled_caught
            assert await directory.route(route.project_id) == route
        assert cancelled


async def test_calls_at_the_same_time_each_get_their_own_reply(server: RedisServer) -> None:
    """Also when Redis has forgotten every script, and when one of them fails."""
    broken = Script("return redis.call('HGET', 'a string', 'x')", hashlib.sha1(b"unknown").hexdigest())
    echo = Script("return {ARGV[1]}", "0" * 40)  # never known by this name: each goes a second time
    client = server.client()
    client.set("a string", "1")
    found: dict[int, object] = {}
    async with open_bridge(server.url) as bridge_, trio.open_nursery() as nursery:

        async def call(number: int) -> None:
            try:
                found[number] = await bridge_.run(echo if number % 3 else broken, number)
            except Unavailable as error:
                found[number] = str(error)

        for number in range(300):
            nursery.start_soon(call, number)
    client.close()
    for number, reply in found.items():
        if number % 3:
            assert reply == [b"%d" % number]
        else:
            assert "WRONGTYPE" in str(reply)
    assert len(found) == 300


async def test_a_name_server_that_does_not_answer_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    asked = threading.Event()

    def getaddrinfo(*_args: object, **_named: object) -> list[object]:
        asked.set()
        answers.wait(DEADLINE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(bridge, "CALL_SECONDS", 0.2)
    try:
        with trio.fail_after(DEADLINE / 2):
            async with open_redis_backplane("redis://redis.test") as backplane:
                with pytest.raises(Unavailable, match="not answered"):
                    await backplane.directory.relays()
        assert asked.is_set()
    finally:
        answers.set()
