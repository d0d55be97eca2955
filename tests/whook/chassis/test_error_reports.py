"""Error reports: what a real daemon contains and what ends it reach the tracker, and nothing secret does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import trio

from tests.support.collector_server import DSN_KEY, Collected, running_collector_server
from tests.support.deadlines import DEADLINE
from whook.chassis import contained, logs, metrics
from whook.chassis.daemon import Daemon, run_daemon
from whook.chassis.error_reports import AT_ONCE, open_error_reports
from whook.chassis.settings import DaemonSettings, SettingsError

EVENT = "evt_01M85NT3WM4QHJS51FET8QKBZV"
SECRET = "a-cluster-key-that-nobody-may-see"

log = logs.get_logger("whook.test")


@pytest.fixture
def collector(restored_logging: None) -> Iterator[Collected]:
    logs.configure_logging("json")
    with running_collector_server() as collected:
        yield collected


def settings(collector: Collected) -> DaemonSettings:
    return DaemonSettings.model_validate(
        {"admin": "", "error_dsn": collector.dsn, "error_environment": "test"}
    )


def fail(payload: bytes) -> None:
    raise ValueError("it is broken")


def contain(payload: bytes = b"the body of a webhook") -> None:
    try:
        fail(payload)
    except ValueError:
        log.exception("a delivery failed", event_id=EVENT, project="shop")


async def test_a_contained_error_is_reported(collector: Collected) -> None:
    async def body(daemon: Daemon) -> None:
        contain()

    before = threading.active_count()
    with trio.fail_after(DEADLINE):
        assert await run_daemon("whook-test", body, settings=settings(collector)) == 0
    (event,) = collector.errors()
    assert event["release"] == f"whook@{metrics.version()}"
    assert event["environment"] == "test"
    assert event["level"] == "error"
    assert event["transaction"] == "a delivery failed"
    assert event["tags"] == {
        "service": "whook-test", "daemon": "whook-test", "event_id": EVENT, "project": "shop",
    }  # fmt: skip
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == ("ValueError", "it is broken")
    assert [frame["function"] for frame in raised["stacktrace"]["frames"]] == ["contain", "fail"]
    assert b"the body of a webhook" not in collector.posted[0].body
    assert not any("vars" in frame for frame in raised["stacktrace"]["frames"])
    assert DSN_KEY in collector.posted[0].headers["x-sentry-auth"]
    assert threading.active_count() <= before + 1, "only the collector's own connection"


async def test_the_group_that_ends_a_daemon_is_reported_and_raised_as_it_was(collector: Collected) -> None:
    async def body(daemon: Daemon) -> None:
        first = KeyError("first")
        contained.about(first, event_id=EVENT)
        raise ExceptionGroup("two tasks failed", [first, ExceptionGroup("inner", [OSError("second")])])

    with trio.fail_after(DEADLINE), pytest.raises(ExceptionGroup) as caught:
        await run_daemon("whook-test", body, settings=settings(collector))
    assert caught.value.message == "two tasks failed"
    (event,) = collector.errors()
    assert event["level"] == "fatal"
    assert event["tags"]["event_id"] == EVENT
    values = event["exception"]["values"]
    assert {value["type"] for value in values} == {"ExceptionGroup", "KeyError", "OSError"}
    assert any(value["mechanism"].get("is_exception_group") for value in values)
    assert {value["mechanism"].get("parent_id") for value in values} >= {0}


async def test_secrets_of_the_settings_are_not_reported(collector: Collected) -> None:
    logs.hide([SECRET])

    async def body(daemon: Daemon) -> None:
        try:
            raise ConnectionError(f"redis://:{SECRET}@127.0.0.1 does not answer")
        except ConnectionError:
            log.exception("failed", event_id=EVENT)

    with trio.fail_after(DEADLINE):
        await run_daemon("whook-test", body, settings=settings(collector))
    (event,) = collector.errors()
    assert SECRET not in str(event)
    assert "redis://:***@127.0.0.1 does not answer" in str(event)


async def test_what_is_logged_in_a_thread_is_reported(collector: Collected) -> None:
    async def body(daemon: Daemon) -> None:
        await trio.to_thread.run_sync(contain)

    with trio.fail_after(DEADLINE):
        await run_daemon("whook-test", body, settings=settings(collector))
    assert [event["transaction"] for event in collector.errors()] == ["a delivery failed"]


async def test_a_storm_is_bounded(collector: Collected) -> None:
    async def body(daemon: Daemon) -> None:
        for _ in range(10 * AT_ONCE):
            contain()

    with trio.fail_after(DEADLINE):
        await run_daemon("whook-test", body, settings=settings(collector))
    assert AT_ONCE <= len(collector.errors()) < 2 * AT_ONCE


async def test_a_tracker_that_is_away_holds_up_nothing_and_is_told_once(
    collector: Collected, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure_logging("json")
    collector.statuses = [503] * 50

    async def body(daemon: Daemon) -> None:
        contain()
        contain()

    with trio.fail_after(DEADLINE):
        assert await run_daemon("whook-test", body, settings=settings(collector)) == 0
    assert capfd.readouterr().err.count("errors cannot be reported") == 1


async def test_nothing_is_collected_without_a_dsn(restored_logging: None) -> None:
    async def body(daemon: Daemon) -> None:
        assert not contained.collected()

    await run_daemon("whook-test", body, settings=DaemonSettings(admin=""))


async def test_a_dsn_that_is_none_is_a_fault_of_the_settings(restored_logging: None) -> None:
    async def body(daemon: Daemon) -> None:
        raise AssertionError("must not run")

    wrong = DaemonSettings.model_validate({"admin": "", "error_dsn": "not-a-dsn"})
    with pytest.raises(SettingsError, match="WHOOK_DAEMON_ERROR_DSN"):
        await run_daemon("whook-test", body, settings=wrong)


async def test_a_report_never_fails_its_caller(collector: Collected) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async with open_error_reports(collector.dsn, service="s", release="r", environment="e") as reports:
        assert reports is not None
        reports.take(Odd(), "odd", {})
        reports.take(ValueError("plain"), "plain", {})
    assert "plain" in {event["transaction"] for event in collector.errors()}
