"""Metrics: declared once, read at scrape time, and process metrics."""

from enum import Enum

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


def test_durations_are_a_histogram_of_all_that_watch() -> None:
    one, other = metrics.Durations((0.1, 1.0)), metrics.Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        one.observe(seconds)
    other.observe(0.5)
    with (
        metrics.watch_durations("whook_test_seconds", "Time.", one, relay="a"),
        metrics.watch_durations("whook_test_seconds", "Time.", other, relay="a"),
        metrics.watch_durations("whook_test_seconds", "Time.", metrics.Durations((0.1, 1.0)), relay="b"),
    ):
        text = scrape()
    assert 'whook_test_seconds_bucket{le="0.1",relay="a"} 2.0' in text, "a bound belongs to its bucket"
    assert 'whook_test_seconds_bucket{le="1.0",relay="a"} 4.0' in text
    assert 'whook_test_seconds_bucket{le="+Inf",relay="a"} 5.0' in text
    assert 'whook_test_seconds_count{relay="a"} 5.0' in text
    assert f'whook_test_seconds_sum{{relay="a"}} {0.05 + 0.1 + 0.5 + 7.0 + 0.5}' in text
    assert 'whook_test_seconds_count{relay="b"} 0.0' in text
    assert "whook_test_seconds" not in scrape()


def test_durations_of_a_name_keep_their_labels() -> None:
    durations = metrics.Durations()
    with (
        metrics.watch_durations("whook_test_labelled", "Time.", durations, relay="a"),
        pytest.raises(ValueError, match="whook_test_labelled"),
        metrics.watch_durations("whook_test_labelled", "Time.", durations, project="a"),
    ):
        pass


def test_a_publisher_has_each_count_under_its_label() -> None:
    class Code(Enum):
        TOO_LATE = 1

    by_code, by_name = {Code.TOO_LATE: 1}, {"a": 2, "b": 0}
    with metrics.Publisher() as to:
        to.counts("whook_test_codes", "Codes.", by_code, "code", relay="x")
        to.counts("whook_test_names", "Names.", by_name, "name")
        by_code[Code.TOO_LATE] += 1
        by_name["c"] = 5  # came later, so it is not published: labels are a fixed set
        text = scrape()
    assert 'whook_test_codes_total{code="too_late",relay="x"} 2.0' in text
    assert 'whook_test_names_total{name="a"} 2.0' in text
    assert 'whook_test_names_total{name="b"} 0.0' in text
    assert 'name="c"' not in text
    assert "whook_test_codes" not in scrape()


def test_there_are_no_series_of_when_a_counter_began() -> None:
    metrics.counter("whook_test_began", "Began.").inc()
    assert "_created" not in scrape()
