"""The memory of kicks agrees with the kicks themselves, and is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from whook.backplane.ports import CLOCKS_DIFFER, Kick, RecentKicks

name = st.sampled_from(["", "a", "b"])
kicks = st.builds(
    Kick,
    project_id=name,
    project=name,
    user_id=name,
    token_id=st.just("t"),
    tunnel_id=name,
    reason=st.just("why"),
    at=st.floats(1, 100),
    until=st.floats(1, 200),
)


@given(st.lists(kicks, max_size=20), st.tuples(name, name, name, name), st.floats(1, 100))
def test_what_any_of_them_means_is_found(
    some: list[Kick], names: tuple[str, str, str, str], issued_at: float
) -> None:
    recent = RecentKicks()
    for kick in some:
        recent.note(kick, now=0)
    tunnel = {
        "project_id": names[0],
        "project": names[1],
        "user_id": names[2],
        "token_id": "t",
        "tunnel_id": names[3],
    }
    meant = [kick for kick in some if kick.matches(**tunnel) and kick.covers(issued_at)]
    assert (recent.find(**tunnel, issued_at=issued_at) is not None) == bool(meant)


def test_a_token_minted_after_it_is_not_meant() -> None:
    kick = Kick(user_id="u", reason="x", at=1000, until=2000)
    assert kick.covers(999)
    assert kick.covers(1000 + CLOCKS_DIFFER), "the clock of whoever minted it may be ahead"
    assert not kick.covers(1001 + CLOCKS_DIFFER)
    assert Kick(user_id="u", reason="x").covers(1e12), "one without a time means now"


def test_it_is_news_once() -> None:
    recent = RecentKicks()
    first, again = (Kick(user_id="u", reason="x", at=at, until=at + 100) for at in (1, 2))
    assert recent.note(again, now=0)
    assert not recent.note(first, now=0)
    assert not recent.note(again, now=0)
    assert recent.standing(0) == [again]
    assert not recent.note(Kick(user_id="u", reason="without an end"), now=0)


def test_what_is_over_or_too_much_is_forgotten() -> None:
    recent = RecentKicks(limit=3)
    for n in range(5):
        recent.note(Kick(user_id=f"u{n}", reason="x", at=n + 1, until=n + 100), now=0)
    assert [kick.user_id for kick in recent.standing(0)] == ["u2", "u3", "u4"]
    assert [kick.user_id for kick in recent.standing(103)] == ["u4"]
    assert recent.standing(104) == []
    assert len(recent) == 0
    tunnel = {"project_id": "p", "project": "n", "user_id": "u4", "token_id": "t"}
    assert recent.find(**tunnel, issued_at=0) is None
