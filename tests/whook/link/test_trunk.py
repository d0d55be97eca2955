"""The introduction on a trunk: both ends prove the cluster key, and nobody else gets further than that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.support.deadlines import DEADLINE
from tests.support.links import Counted, in_memory
from tests.support.wire_talk import frame
from whook.link import (
    Link,
    LinkClosed,
    LinkRefused,
    StreamTransport,
    Transport,
    TrunkRefused,
    introduce_conductor,
    introduce_relay,
)
from whook.wire import PROTOCOL_VERSION, GoAwayCode, Hello, ProtocolError, encode_goaway, encode_hello

KEY = b"the cluster's key"


async def conductor(link: Link, key: bytes = KEY) -> Hello:
    return await introduce_conductor(link, key, agent="conductor", instance="con_1")


async def relay(link: Link, key: bytes = KEY) -> Hello:
    return await introduce_relay(link, key, agent="relay", instance="rly_1", heartbeat=20.0)


async def failure_of(task: Awaitable[Hello]) -> Exception:
    with trio.fail_after(DEADLINE):
        try:
            hello = await task
        except (TrunkRefused, LinkRefused, LinkClosed, ProtocolError) as error:
            return error
    raise AssertionError(f"it went well: {hello}")


def ends() -> tuple[Link, Link]:
    near, far = in_memory()
    return Link(near, name="conductor"), Link(far, name="relay")


async def test_both_hold_the_key() -> None:
    near, far = ends()
    hellos: list[Hello] = []

    async def answer() -> None:
        hellos.append(await relay(far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        hellos.append(await conductor(near))
    theirs, ours = sorted(hellos, key=lambda hello: hello.peer)
    assert (theirs.peer, theirs.agent, theirs.instance) == ("conductor", "conductor", "con_1")
    assert (ours.peer, ours.agent, ours.instance, ours.heartbeat) == ("relay", "relay", "rly_1", 20.0)


async def test_a_relay_with_another_key() -> None:
    near, far = in_memory()
    refused: list[Exception] = []

    async def dial() -> None:
        refused.append(await failure_of(conductor(Link(near, name="near"))))
        await near.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        assert isinstance(await failure_of(relay(Link(far, name="far"), b"wrong")), LinkClosed)
    assert isinstance(refused[0], TrunkRefused)
    assert str(refused[0]) == "the relay does not hold this cluster key"


class Impostor:
    """A conductor without the key, which says what the test tells it to say."""

    def __init__(self, transport: Transport) -> None:
        self.link = Link(transport, name="impostor")

    async def ask(self, **changes: object) -> Hello:
        """Introduce ourselves and give the relay's answer."""
        hello = Hello(version=PROTOCOL_VERSION, agent="x", peer="conductor", instance="x", nonce=bytes(32))
        await self.link.send_now(encode_hello(msgspec.structs.replace(hello, **changes)))
        return await self.link.receive_hello()


Trick = Callable[[Impostor], Awaitable[None]]


async def told(trick: Trick, *, reason: str) -> None:
    """Run a trick against a relay, which must refuse it, and say so."""
    near, far = in_memory()
    impostor = Impostor(near)
    refused: list[Exception] = []

    async def serve() -> None:
        refused.append(await failure_of(relay(Link(far, name="relay"))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trick(impostor)
        with pytest.raises(LinkRefused) as answer:
            await impostor.link.receive_hello()
    assert isinstance(refused[0], TrunkRefused)
    assert str(refused[0]) == reason
    assert answer.value.goaway.code == GoAwayCode.UNAUTHORIZED
    assert answer.value.goaway.message == reason


NO_KEY = "the conductor does not hold this cluster key"


@pytest.mark.parametrize("proof", [b"", bytes(32), b"short", bytes(1000)])
async def test_a_conductor_that_guesses(proof: bytes) -> None:
    async def trick(impostor: Impostor) -> None:
        await impostor.ask()
        await impostor.link.send_now(
            encode_hello(Hello(version=PROTOCOL_VERSION, agent="x", peer="conductor", proof=proof))
        )

    await told(trick, reason=NO_KEY)


async def test_the_relays_own_proof_sent_back() -> None:
    async def trick(impostor: Impostor) -> None:
        answer = await impostor.ask()
        await impostor.link.send_now(encode_hello(answer))

    await told(trick, reason=NO_KEY)


async def test_a_proof_that_was_overheard() -> None:
    near, far = in_memory()
    tapped = Counted(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, Link(far, name="relay"))
        await conductor(Link(tapped, name="conductor"))
    heard = tapped.sent
    assert len(heard) == 2

    async def trick(impostor: Impostor) -> None:
        await impostor.link.send_now(heard[0])
        await impostor.link.receive_hello()
        await impostor.link.send_now(heard[1])

    await told(trick, reason=NO_KEY)


@pytest.mark.parametrize("version", [0, 2, 99])
async def test_another_version(version: int) -> None:
    async def trick(impostor: Impostor) -> None:
        hello = Hello(version=version, agent="x", peer="conductor", nonce=bytes(32))
        await impostor.link.send_now(encode_hello(hello))

    await told(trick, reason=f"protocol version {version} is not 1")


@pytest.mark.parametrize("nonce", [b"", b"short", bytes(33)])
async def test_no_challenge(nonce: bytes) -> None:
    async def trick(impostor: Impostor) -> None:
        hello = Hello(version=PROTOCOL_VERSION, agent="x", peer="conductor", nonce=nonce)
        await impostor.link.send_now(encode_hello(hello))

    await told(trick, reason="the conductor sent no challenge")


async def test_a_relay_of_another_version_or_with_a_reason() -> None:
    near, far = in_memory()
    await far.send(encode_hello(Hello(version=2, agent="x", peer="relay")))
    error = await failure_of(conductor(Link(near, name="near")))
    assert isinstance(error, TrunkRefused)
    assert str(error) == "protocol version 2 is not 1"
    near, far = in_memory()
    await far.send(encode_goaway(GoAwayCode.UNAUTHORIZED, "no"))
    assert isinstance(await failure_of(conductor(Link(near, name="near"))), LinkRefused)


@pytest.mark.parametrize("side", [conductor, relay])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ProtocolError),
        (b"\xff" * 100, ProtocolError),
        (frame("DATA 1 'x'"), ProtocolError),
        (encode_hello(Hello(version=1, agent="x", peer="cli"))[:-1] + b"\xc1", ProtocolError),
        (b"", LinkClosed),
    ],
)
async def test_garbage(side: Callable[[Link], Awaitable[Hello]], data: bytes, kind: type[Exception]) -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(data)
    await far.send_eof()
    assert isinstance(await failure_of(side(Link(StreamTransport(near), name="near"))), kind)


@pytest.mark.parametrize("side", [conductor, relay])
async def test_silence_is_the_callers_to_bound(
    side: Callable[[Link], Awaitable[Hello]], autojump_clock: MockClock
) -> None:
    near, _ = ends()
    with pytest.raises(trio.TooSlowError), trio.fail_after(10):
        await side(near)


async def test_the_peer_goes_in_the_middle() -> None:
    near, far = in_memory()
    impostor = Impostor(near)
    gone: list[Exception] = []

    async def serve() -> None:
        gone.append(await failure_of(relay(Link(far, name="relay"))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await impostor.ask()
        await near.aclose()
    assert isinstance(gone[0], LinkClosed)
