"""Identifiers: form, order, threads, forks, and a clock that misbehaves."""

import concurrent.futures
import multiprocessing
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis import ids
from whook.chassis.ids import id_milliseconds, is_id, new_id

FORM = re.compile(r"evt_[0-9A-HJKMNP-TV-Z]{26}\Z")


def test_has_prefix_and_26_characters() -> None:
    assert FORM.match(new_id("evt"))


def test_sorts_in_the_order_made() -> None:
    made = [new_id("evt") for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_sorts_by_time_between_processes() -> None:
    earlier, later = ids._Clock(), ids._Clock()
    earlier.restart(1_700_000_000_000)
    later.restart(1_700_000_000_001)
    assert earlier.head < later.head


def test_holds_the_time_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = id_milliseconds(new_id("evt"))
    # An earlier test may have run ahead of the clock only within one millisecond.
    assert before <= made <= time.time_ns() // 1_000_000


def test_keeps_order_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_clock", ids._Clock())
    first = new_id("evt")
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_000_000_000)
    assert first < new_id("evt") < new_id("evt")


def test_carries_into_the_higher_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ids._Clock()
    clock.restart(id_milliseconds(new_id("evt")) + 60_000)  # so that no call starts a new millisecond
    clock.low = ids._LOW_LIMIT - 2
    monkeypatch.setattr(ids, "_clock", clock)
    made = [new_id("evt") for _ in range(4)]
    assert made == sorted(set(made))
    assert made[0][:24] < made[1][:24]
    assert made[1].endswith("000000")


def test_differs_between_threads() -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda _: [new_id("evt") for _ in range(5_000)], range(4)))
    everything = [identifier for batch in batches for identifier in batch]
    assert len(set(everything)) == len(everything)
    assert all(batch == sorted(batch) for batch in batches)


def _make_many(count: int) -> list[str]:
    return [new_id("evt") for _ in range(count)]


def test_differs_between_processes() -> None:
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        batches = list(pool.map(_make_many, [2_000] * 4))
    everything = [identifier for batch in batches for identifier in batch]
    assert len(set(everything)) == len(everything)


def test_forked_child_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_clock", ids._clock)  # both are put back afterwards
    monkeypatch.setattr(ids, "_lock", ids._lock)
    new_id("evt")
    inherited = ids._clock
    ids._after_fork()
    assert ids._clock is not inherited
    assert ids._clock.millisecond == -1


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 80) - 1))
def test_reads_back_any_time(millisecond: int, random: int) -> None:
    text = "evt_" + ids._encode(millisecond << 80 | random, 13)
    assert id_milliseconds(text) == millisecond
    assert is_id(text, "evt")


@given(st.text(max_size=40))
def test_only_value_error_escapes(text: str) -> None:
    if not is_id(text, text.partition("_")[0]):
        with pytest.raises(ValueError, match="not an identifier"):
            id_milliseconds(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt_",
        "evt_01",
        "evt-" + "0" * 26,
        "evt_" + "8" + "0" * 25,
        "evt_" + "U" * 26,
        "evt_" + "0" * 26 + "\n",
    ],
)
def test_refuses_other_forms(text: str) -> None:
    assert not is_id(text, "evt")


def test_tells_prefixes_apart() -> None:
    assert not is_id(new_id("prj"), "evt")
