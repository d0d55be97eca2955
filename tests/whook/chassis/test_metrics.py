"""Metrics: declared once, read at scrape time, and process metrics."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from whook.chassis import metrics
from whook.chassis.drain import Drain
from whook.chassis.readiness import Readiness


def scrape() -> str:
    return metrics.render().decode()


def test_declaring_twice_gives_the_same() -> None:
    first = metrics.counter("whook_test_things", "Things.", ["kind"])
    first.labels("a").inc()
    assert metrics.counter("whook_test_things", "Things.", ["kind"]) is first
    assert 'whook_test_things_total{kind="a"} 1.0' in scrape()
    assert metrics.gauge("whook_test_level", "Level.") is metrics.gauge("whook_test_level", "Level.")
    assert metrics.histogram("whook_test_time", "Time.") is metrics.histogram("whook_test_time", "Time.")


def test_a_name_has_one_type() -> None:
    metrics.counter("whook_test_type", "Type.")
    with pytest.raises(TypeError, match="whook_test_type"):
        metrics.gauge("whook_test_type", "Type.")
    with pytest.raises(TypeError, match="whook_test_type"):
        metrics.histogram("whook_test_type", "Type.")
    metrics.gauge("whook_test_type_2", "Type.")
    with pytest.raises(TypeError, match="whook_test_type_2"):
        metrics.counter("whook_test_type_2", "Type.")


def test_watched_values_are_read_while_the_block_runs() -> None:
    value = 1
    with metrics.watch("whook_test_watched", "Watched.", lambda: value, relay="a"):
        assert 'whook_test_watched{relay="a"} 1.0' in scrape()
        value = 2
        assert 'whook_test_watched{relay="a"} 2.0' in scrape()
    assert "whook_test_watched" not in scrape()


def test_equal_labels_add_up() -> None:
    with (
        metrics.watch("whook_test_sum", "Sum.", lambda: 1, kind="counter", relay="a"),
        metrics.watch("whook_test_sum", "Sum.", lambda: 2, kind="counter", relay="a"),
        metrics.watch("whook_test_sum", "Sum.", lambda: 4, kind="counter", relay="b"),
    ):
        assert 'whook_test_sum_total{relay="a"} 3.0' in scrape()
        assert 'whook_test_sum_total{relay="b"} 4.0' in scrape()


def test_a_watched_name_keeps_kind_and_labels() -> None:
    with metrics.watch("whook_test_kind", "Kind.", lambda: 1, relay="a"):
        for kind, labels in (("counter", {"relay": "a"}), ("gauge", {"project": "a"})):
            with (
                pytest.raises(ValueError, match="whook_test_kind"),
                metrics.watch("whook_test_kind", "Kind.", lambda: 1, kind=kind, **labels),  # type: ignore[arg-type]
            ):
                pass


def test_one_broken_reader_hides_nothing_else() -> None:
    def broken() -> float:
        raise RuntimeError("boom")

    with (
        capture_logs() as logs,
        metrics.watch("whook_test_broken", "Broken.", broken),
        metrics.watch("whook_test_whole", "Whole.", lambda: 5),
    ):
        assert "whook_test_whole 5.0" in scrape()
    assert logs[0]["metric"] == "whook_test_broken"


async def test_publishes_the_process() -> None:
    drain = Drain()
    with metrics.publish_process("relay", drain, Readiness(drain)):
        text = scrape()
        assert 'whook_draining{daemon="relay"} 0.0' in text
        assert f'version="{metrics.version()}"' in text
        assert 'whook_tasks{daemon="relay"} ' in text
        assert "process_resident_memory_bytes" in text
        drain.begin("test")
        assert 'whook_draining{daemon="relay"} 1.0' in scrape()


async def test_measures_the_lag_of_the_loop(autojump_clock: MockClock) -> None:
    with trio.move_on_after(10):
        await metrics.measure_loop_lag(interval=1)
    lines = dict(line.rsplit(" ", 1) for line in scrape().splitlines())
    assert float(lines["whook_event_loop_lag_seconds_count"]) >= 9
