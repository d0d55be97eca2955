"""Admission: so many a second, so many at once, and refusals that spread the others."""

from __future__ import annotations

import heapq

import pytest

from whook.chassis.admission import Admission, Place


class Clock:
    """The time, as the tests move it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def enter(admission: Admission, times: int) -> tuple[list[Place], list[float]]:
    places: list[Place] = []
    waits: list[float] = []
    for _ in range(times):
        entered = admission.enter()
        if isinstance(entered, Place):
            places.append(entered)
        else:
            waits.append(entered)
    return places, waits


def test_a_seconds_worth_may_come_together(clock: Clock) -> None:
    admission = Admission(10, 1000, clock)
    assert len(enter(admission, 30)[0]) == 10
    clock.now += 0.5
    assert len(enter(admission, 30)[0]) == 5
    clock.now += 3600
    assert len(enter(admission, 30)[0]) == 10


def test_so_many_at_once(clock: Clock) -> None:
    admission = Admission(1000, 3, clock)
    places, waits = enter(admission, 5)
    assert (len(places), len(waits), admission.under_way, admission.refused) == (3, 2, 3, 2)
    for place in places:
        place.leave()
        place.leave()
    assert admission.under_way == 0
    assert len(enter(admission, 5)[0]) == 3


def test_the_refused_come_back_at_the_rate_at_which_they_can_be_admitted(clock: Clock) -> None:
    admission = Admission(100, 10_000, clock)
    enter(admission, 100)
    waits = enter(admission, 1000)[1]
    assert len(waits) == 1000
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(1.01)
    assert waits[-1] == pytest.approx(11.0)
    per_second = [sum(second <= wait < second + 1 for wait in waits) for second in range(1, 11)]
    assert max(per_second) <= 101


def test_nobody_is_sent_away_for_ever(clock: Clock) -> None:
    admission = Admission(1, 10_000, clock)
    assert max(enter(admission, 1000)[1]) == pytest.approx(60.0)


def test_a_storm_is_over_when_it_is_over(clock: Clock) -> None:
    admission = Admission(10, 10_000, clock)
    enter(admission, 100)
    clock.now += 100
    assert enter(admission, 11)[1] == [pytest.approx(1.1)]


def test_everyone_gets_in(clock: Clock) -> None:
    admission = Admission(100, 10_000, clock)
    due = [clock.now] * 2000
    admitted = 0
    while due:
        clock.now = max(clock.now, heapq.heappop(due))
        entered = admission.enter()
        if isinstance(entered, Place):
            admitted += 1
            entered.leave()
        else:
            heapq.heappush(due, clock.now + entered)
    assert admitted == 2000
    assert clock.now - 1000.0 < 40
