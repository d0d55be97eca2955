"""Delays: jittered from zero, bounded, never sooner than the server asks."""

from hypothesis import given
from hypothesis import strategies as st

from whook_cli.backoff import CAP, FIRST, HEALTHY, RETRY_AFTER_CAP, Backoff

units = st.floats(0, 1, exclude_max=True)


@given(unit=units)
def test_the_first_retry_comes_within_a_quarter_of_a_second(unit: float) -> None:
    assert 0 <= Backoff(lambda: unit).delay() < FIRST == 0.25


@given(draws=st.lists(units, min_size=1, max_size=100))
def test_no_delay_passes_the_cap(draws: list[float]) -> None:
    source = iter(draws)
    backoff = Backoff(lambda: next(source))
    assert all(backoff.delay() < CAP for _ in draws)


def test_the_bound_doubles_until_the_cap() -> None:
    backoff = Backoff(lambda: 1.0)
    assert [backoff.delay() for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]


@given(unit=units, asked=st.floats(0.001, 10_000), attempts=st.integers(0, 40))
def test_retry_after_is_honoured_and_spread(unit: float, asked: float, attempts: int) -> None:
    backoff = Backoff(lambda: unit)
    for _ in range(attempts):
        backoff.delay()
    wanted = min(asked, RETRY_AFTER_CAP)
    assert wanted <= backoff.delay(asked) <= max(wanted * 1.1, CAP)


def test_only_a_tunnel_that_stood_starts_afresh() -> None:
    backoff = Backoff(lambda: 1.0)
    for _ in range(5):
        backoff.delay()
    backoff.ended(HEALTHY - 1)
    assert backoff.delay() == 8
    backoff.ended(HEALTHY)
    assert backoff.delay() == FIRST
