"""Fidelity cases in which order matters: streaming, upgrades, half-close, early answers, several requests."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.fidelity import Case, Stage, noise, once
from tests.support.origin import Script, Turn, reply, response
from tests.support.rawhttp import Message, Peer, chunked
from tests.system.fidelity_requests import OK, head, post

GET = head(b"GET", b"/", b"Host: @HOST@")
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
EVENTS = tuple(b'id: %d\nevent: tick\ndata: {"n": %d}\n\n' % (n, n) for n in range(3))
UPGRADE = head(
    b"GET", b"/ws?x=1", b"Host: @HOST@", b"Upgrade: websocket", b"Connection: Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13", b"Origin: http://a.example",
)  # fmt: skip
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def _event_stream(name: str, start: bytes, *, framed: bool) -> Case:
    """Each event must arrive before the next one is written: nothing on the way may collect them."""

    def script_for(stage: Stage) -> list[Script]:
        def script(turn: Turn) -> None:
            turn.read()
            turn.send(start)
            for event, gate in zip(EVENTS, "abc", strict=True):
                turn.send(b"%x\r\n%s\r\n" % (len(event), event) if framed else event)
                stage.gates[gate].wait()
            if framed:
                turn.send(b"0\r\n\r\n")
            else:
                turn.close()

        return [script]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(GET))
        answer = client.read_head()
        is_chunked = bool(answer.values(b"Transfer-Encoding"))
        seen = b""
        for count, gate in enumerate("abc", 1):
            while len(seen) < len(b"".join(EVENTS[:count])):
                seen += client.read_chunk() if is_chunked else client.take(len(EVENTS[count - 1]))
            stage.gates[gate].open()
        if is_chunked:
            assert client.read_chunk() == b""
            client.read_trailers()
        else:
            assert client.at_end()
        return [Message(answer.head, seen, (), "chunked" if is_chunked else "close")]

    return Case(f"event stream: {name}", talk, script_for)


def _head_before_body() -> Case:
    """The response's head must arrive while its body is still unknown."""

    def script_for(stage: Stage) -> list[Script]:
        def script(turn: Turn) -> None:
            turn.read()
            turn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            stage.gates["a"].wait()
            turn.send(b"late")

        return [script]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(GET))
        answer = client.read_head()
        stage.gates["a"].open()
        return [client.read_body(answer, to_end=False)]

    return Case("streaming: head before body", talk, script_for)


def _request_streams() -> Case:
    """The origin must see the first part of a body before the rest is sent."""

    def script_for(stage: Stage) -> list[Script]:
        def script(turn: Turn) -> None:
            first = turn.peer.read_chunk()
            stage.gates["a"].open()
            rest = turn.peer.read_chunk()
            assert turn.peer.read_chunk() == b""
            turn.origin.record(Message(turn.head.head, first + rest, turn.peer.read_trailers(), "chunked"))
            turn.send(OK)

        return [script]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(head(b"POST", b"/", b"Host: @HOST@", b"Transfer-Encoding: chunked")))
        client.send(b"5\r\nfirst\r\n")
        stage.gates["a"].wait()
        client.send(chunked(b"second"))
        return client.read_responses(b"POST")

    return Case("streaming: request body", talk, script_for)


def _both_at_once() -> Case:
    """A response that runs while its request is still being sent, echoing piece by piece."""

    def script(turn: Turn) -> None:
        turn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        whole = b""
        while piece := turn.peer.read_chunk():
            whole += piece
            turn.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        turn.origin.record(Message(turn.head.head, whole, turn.peer.read_trailers(), "chunked"))
        turn.send(b"0\r\n\r\n")

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(head(b"POST", b"/", b"Host: @HOST@", b"Transfer-Encoding: chunked")))
        answer: Message | None = None
        whole = b""
        for n in range(5):
            client.send(b"6\r\nping %d\r\n" % n)
            answer = answer or client.read_head()
            whole += client.read_chunk()
        client.send(b"0\r\n\r\n")
        assert answer is not None
        assert client.read_chunk() == b""
        return [Message(answer.head, whole, client.read_trailers(), "chunked")]

    return Case("streaming: both directions at once", talk, once(script))


def _early_answer() -> Case:
    """A final answer before the body was sent; the client then sends the rest, as it promised."""

    def script_for(stage: Stage) -> list[Script]:
        def script(turn: Turn) -> None:
            turn.send(response(b"early", status=b"403 Forbidden"))
            stage.gates["a"].wait()
            turn.read()

        return [script]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(head(b"POST", b"/", b"Host: @HOST@", b"Content-Length: 10")) + b"01234")
        answer = client.read_responses(b"POST")
        stage.gates["a"].open()
        client.send(b"56789")
        return answer

    return Case("early answer: rest of the body follows", talk, script_for)


def _early_answer_and_close() -> Case:
    """The origin refuses a body, answers and closes without having read it."""

    def script(turn: Turn) -> None:
        turn.origin.record(turn.head)
        turn.send(response(b"too big", b"Connection: close", status=b"413 Content Too Large"))
        turn.peer.end()
        turn.peer.take_rest()

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(
            stage.text(head(b"POST", b"/", b"Host: @HOST@", b"Content-Length: 1000000")) + noise(1000)
        )
        answer = client.read_responses(b"POST")
        client.end()
        return answer

    return Case("early answer: refused and closed", talk, once(script))


def _upgrade(
    name: str, talk_raw: object, script_raw: object, *, glued: bytes = b"", early: bytes = b""
) -> Case:
    """Switch protocols, then let both ends speak raw bytes; each notes what it received."""

    def script_for(stage: Stage) -> list[Script]:
        def script(turn: Turn) -> None:
            turn.read()
            turn.send(SWITCHED + glued)
            script_raw(turn.peer, stage)  # type: ignore[operator]
            turn.close()

        return [script]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(UPGRADE) + early)
        answer = client.read_responses()
        talk_raw(client, stage)  # type: ignore[operator]
        return answer

    return Case(f"upgrade: {name}", talk, script_for)


def _upgrades() -> Iterator[Case]:
    def echo_once(peer: Peer, stage: Stage) -> None:
        stage.raw["up"] = peer.take(4)
        peer.send(b"\x81\x02ok")

    def ask_once(client: Peer, stage: Stage) -> None:
        client.send(b"\x00\xff\r\n")
        stage.raw["down"] = client.take(4)

    yield _upgrade("a few bytes each way", ask_once, echo_once)

    def server_speaks(client: Peer, stage: Stage) -> None:
        stage.raw["down"] = client.take(11) + b"|"
        client.send(b"bye!")
        stage.raw["down"] += client.take(4)

    yield _upgrade("bytes in the same packet as the 101", server_speaks, echo_once, glued=b"hello first")

    def read_four(client: Peer, stage: Stage) -> None:
        stage.raw["down"] = client.take(4)

    yield _upgrade("bytes in the same packet as the request", read_four, echo_once, early=b"now!")

    def swallow_then_answer(peer: Peer, stage: Stage) -> None:
        stage.raw["up"] = peer.take_rest()
        peer.send(noise(70_000, 2))

    def send_and_end(client: Peer, stage: Stage) -> None:
        client.send(noise(1 << 20))
        client.end()
        stage.raw["down"] = client.take_rest()

    yield _upgrade("client closes its half first", send_and_end, swallow_then_answer)

    def answer_then_swallow(peer: Peer, stage: Stage) -> None:
        peer.send(noise(1 << 20, 3))
        peer.end()
        stage.raw["up"] = peer.take_rest()

    def read_then_send(client: Peer, stage: Stage) -> None:
        stage.raw["down"] = client.take_rest()
        client.send(noise(70_000, 4))
        client.end()

    yield _upgrade("server closes its half first", read_then_send, answer_then_swallow)

    def ping_pong_server(peer: Peer, stage: Stage) -> None:
        for _ in range(50):
            peer.send(peer.take(3)[::-1])
        stage.raw["up"] = b"done"

    def ping_pong_client(client: Peer, stage: Stage) -> None:
        seen = b""
        for n in range(50):
            client.send(b"%03d" % n)
            seen += client.take(3)
        stage.raw["down"] = seen

    yield _upgrade("fifty turns", ping_pong_client, ping_pong_server)

    for name, answer in {
        "refused with 200": OK,
        "refused with 426": response(
            b"no", b"Upgrade: h2c", b"Connection: Upgrade", status=b"426 Upgrade Required"
        ),
        "refused with 401": response(b"", b"WWW-Authenticate: Basic", status=b"401 Unauthorized"),
    }.items():

        def talk(client: Peer, stage: Stage) -> list[Message]:
            client.send(stage.text(UPGRADE))
            return client.read_responses()

        yield Case(f"upgrade: {name}", talk, once(reply(answer)))


def _sequence(name: str, *requests: bytes, pipelined: bool) -> Case:
    """Several requests on one connection, one after the other or all at once; answers differ."""
    answers = [response(b"answer %d" % n, b"X-N: %d" % n) for n in range(len(requests))]

    def talk(client: Peer, stage: Stage) -> list[Message]:
        if pipelined:
            client.send(b"".join(stage.text(request) for request in requests))
            return [client.read_response(r.split(b" ")[0]) for r in requests]
        seen: list[Message] = []
        for request in requests:
            client.send(stage.text(request))
            seen.append(client.read_response(request.split(b" ")[0]))
        return seen

    return Case(name, talk, lambda _: [reply(answer) for answer in answers])


def _sequences() -> Iterator[Case]:
    chunky = head(b"POST", b"/c", b"Host: @HOST@", b"Transfer-Encoding: chunked") + chunked(b"abc", b"de")
    yield _sequence("keep-alive: three posts", *(post(body=b"%d" % n) for n in range(3)), pipelined=False)
    yield _sequence("keep-alive: mixed framings", GET, chunky, post(body=noise(70_000)), GET, pipelined=False)
    yield _sequence("keep-alive: thirty", *(post(body=b"%d" % n) for n in range(30)), pipelined=False)
    yield _sequence("pipelined: two", post(body=b"first"), post(body=b"second"), pipelined=True)
    yield _sequence("pipelined: mixed framings", GET, chunky, post(body=noise(70_000)), GET, pipelined=True)
    yield _sequence("pipelined: ten", *(post(body=b"%d" % n) for n in range(10)), pipelined=True)


def _half_closed() -> Case:
    """A client that ends its half right after its request still gets its answer (nc -N, some libraries)."""

    def talk(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(post(body=b"last words")))
        client.end()
        return client.read_responses(b"POST")

    return Case("half-close: answer after the client's end", talk, once(reply(response(noise(300_000)))))


CASES: list[Case] = [
    _event_stream("chunked", CHUNKED, framed=True),
    _event_stream("until close", UNTIL_CLOSE, framed=False),
    _head_before_body(),
    _request_streams(),
    _both_at_once(),
    _early_answer(),
    _early_answer_and_close(),
    *_upgrades(),
    *_sequences(),
    _half_closed(),
]
