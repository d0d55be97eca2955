"""Traces from finished spans to a collector, over HTTP; and the outbox that carries them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio

from tests.support.collector_server import Collected, running_collector_server
from tests.support.deadlines import DEADLINE
from whook.telemetry import tracing
from whook.telemetry.outbox import ATTEMPTS, Posting, open_outbox
from whook.telemetry.tracing import Tracer, TracingUnavailable, open_tracer, trace_target

EVENT = "evt_01M85NT3WM4QHJS51FET8QKBZV"


@pytest.fixture
def collector() -> Iterator[Collected]:
    with running_collector_server() as collected:
        yield collected


def add(tracer: Tracer, event_id: str = EVENT, error: str = "") -> None:
    trace = tracer.trace(event_id, b"")
    assert trace is not None
    tracer.hop("ingress", trace, event_id, 1, 1_000, 3_000, name="webhook shop", kind="server", error=error)
    tracer.hop("trunk", trace, event_id, 1, 2_000, 1_000, name="exchange shop", kind="client")


async def test_spans_arrive_whole(collector: Collected) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b,other=1",
    }
    troubles: list[str] = []
    async with open_tracer(trace_target(env), "whook-test", "1.2.3", trouble=troubles.append) as tracer:
        assert tracer is not None
        add(tracer, error="no-tunnel")
    ingress, trunk = collector.spans()
    assert (ingress["service"], ingress["resource"]["service.version"]) == ("whook-test", "1.2.3")
    assert (ingress["name"], ingress["kind"], ingress["parent"]) == ("webhook shop", 2, "")
    assert (ingress["start"], ingress["end"]) == (1_000, 3_000)
    assert (ingress["status"], ingress["message"]) == (2, "no-tunnel")
    assert ingress["attributes"] == {"whook.event_id": EVENT, "whook.attempt": 1}
    assert (trunk["parent"], trunk["trace"]) == (ingress["id"], ingress["trace"])
    assert trunk["end"] == trunk["start"], "a clock that was set back makes no span of negative length"
    assert collector.posted[0].headers["x-key"] == "a b"
    assert collector.posted[0].headers["content-type"] == "application/x-protobuf"
    assert troubles == []


async def test_spans_leave_while_the_process_runs(collector: Collected) -> None:
    url = collector.otlp + "/v1/traces"
    target = trace_target({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "10"})
    async with open_tracer(target, "whook-test", "1", trouble=print) as tracer:
        assert tracer is not None
        add(tracer)
        await trio.to_thread.run_sync(lambda: collector.wait(collector.spans, "spans"))


async def test_spans_are_bounded() -> None:
    tracer = Tracer(1.0)
    for n in range(tracing.MAX_PENDING):
        add(tracer, f"evt_{n}")
    assert len(tracer.take()) == tracing.MAX_PENDING
    assert tracer.dropped == tracing.MAX_PENDING


def test_a_share_of_events_is_traced() -> None:
    tracer = Tracer(0.25)
    traced = sum(tracer.trace(f"evt_{n}", b"") is not None for n in range(4_000))
    assert 800 < traced < 1_200


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_asked_for(env: dict[str, str]) -> None:
    assert trace_target(env) is None


@pytest.mark.parametrize(
    "more",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "unix:/x"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
    ],
)
def test_what_cannot_be_is_told(more: dict[str, str]) -> None:
    with pytest.raises(TracingUnavailable):
        trace_target({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", **more})


@pytest.mark.parametrize(
    ("sampler", "share"), [("always_on", 1.0), ("always_off", 0.0), ("parentbased_traceidratio", 0.1)]
)
def test_the_sampler_of_the_variables(sampler: str, share: float) -> None:
    target = trace_target(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x/",
            "OTEL_TRACES_SAMPLER": sampler,
            "OTEL_TRACES_SAMPLER_ARG": "0.1",
        }
    )
    assert target is not None
    assert (target.url, target.share) == ("http://x/v1/traces", share)


async def test_the_outbox_tries_again_and_then_gives_up(collector: Collected) -> None:
    collector.statuses = [503, 200, *[429] * ATTEMPTS, 400, 200]
    troubles: list[str] = []
    post = partial(Posting, f"{collector.otlp}/x", {})
    async with open_outbox(most=10, trouble=troubles.append) as outbox, trio.open_nursery() as nursery:
        for body in (b"again", b"given up", b"unwanted", b"good"):
            outbox.put(post(body))
        nursery.start_soon(outbox.run)
        with trio.fail_after(DEADLINE):
            await outbox.flush()
        nursery.cancel_scope.cancel()
    assert (outbox.posted, outbox.dropped) == (2, 2)
    bodies = [posted.body for posted in collector.posted]
    assert bodies == [b"again"] * 2 + [b"given up"] * ATTEMPTS + [b"unwanted", b"good"]
    assert troubles == ["status 503", "status 429"], "once for each outage"


async def test_the_outbox_is_bounded_and_outlives_a_collector_that_is_gone() -> None:
    told = trio.Event()
    async with open_outbox(most=2, trouble=lambda _: told.set()) as outbox, trio.open_nursery() as nursery:
        for _ in range(5):
            outbox.put(Posting("http://127.0.0.1:1/x", {}, b""))
        assert outbox.dropped == 3
        nursery.start_soon(outbox.run)
        with trio.fail_after(DEADLINE):
            await told.wait()
        nursery.cancel_scope.cancel()
    assert outbox.posted == 0
