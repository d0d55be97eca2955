"""`whook projects set`: values as people write them, refusals with what to write instead; what is shown."""

from __future__ import annotations

import pytest

from tests.support.records import record
from whook_cli.display import Painter
from whook_cli.exits import UsageError
from whook_cli.project_policy import KEYS, _shown, parse_settings
from whook_conductor.policy_api import PolicyChange


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("buffer=off", False),
        ("buffer=Yes", True),
        ("window=1_000", 1000),
        ("max-age=3d", 259_200.0),
        ("retry_base=0.5", 0.5),
        ("retry_base=1.5m", 90.0),
        ("max_bytes=64KiB", 65_536),
        ("max_bytes=10mb", 10_000_000),
        ("max_bytes=7", 7),
        ("buffer_methods=POST, PUT", ["POST", "PUT"]),
        ("buffered_body=a=b", "a=b"),
        ("order=default", None),
    ],
)
def test_values_as_people_write_them(setting: str, value: object) -> None:
    [found] = parse_settings([setting]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ([], "order=live-first"),
        (["window"], "KEY=VALUE"),
        (["windw=1"], "did you mean window?"),
        (["nonsense=1"], "max_attempts"),
        (["window=many"], "a number"),
        (["window=-1"], "a number"),
        (["max_age=1 week"], "7d"),
        (["max_age=-5"], "7d"),
        (["max_bytes=1XB"], "1GiB"),
        (["buffer=perhaps"], "on or off"),
    ],
)
def test_a_refusal_names_the_mend(settings: list[str], named: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_settings(settings)
    assert named in str(refusal.value)


def test_the_client_knows_every_key_of_the_server() -> None:
    assert set(KEYS) == set(PolicyChange.model_fields)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("buffer", True, "on"),
        ("max_age", 604_800.0, "7d"),
        ("retry_base", 2.5, "2.5s"),
        ("retry_cap", 3_600.0, "1h"),
        ("max_bytes", 10_000_000, "10 MB"),
        ("buffered_body", None, "(default)"),
        ("buffer_methods", ["POST", "PUT"], "POST,PUT"),
        ("dedup_window", 0.0, "0s"),
    ],
)
def test_what_is_shown(key: str, value: object, shown: str) -> None:
    assert _shown(key, value) == shown  # type: ignore[arg-type]


def test_a_stored_webhook_is_marked_in_the_list() -> None:
    line = Painter(colour=False).paint(record(origin="buffered", remaining=3))
    assert "(buffered, 3 left)" in line
    assert "(buffered)" in Painter(colour=False).paint(record(origin="buffered"))
    assert "buffered" not in Painter(colour=False).paint(record())
