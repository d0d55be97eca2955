"""Device logins (RFC 8628), throttling of guesses, and passwords, over real sockets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.auth_rig import DEVICE_GRANT, PASSWORD, AuthRig, open_auth_rig
from whook_auth.device import ALPHABET, read_user_code
from whook_auth.passwords import Passwords


async def begin(rig: AuthRig) -> dict[str, str]:
    answer = await rig.form("/oauth/device_authorization", client_id="test")
    codes: dict[str, str] = answer.json()
    return codes


async def poll(rig: AuthRig, codes: dict[str, str]) -> dict[str, str]:
    fields = {"grant_type": DEVICE_GRANT, "device_code": codes["device_code"], "client_id": "test"}
    answer: dict[str, str] = (await rig.form("/oauth/token", **fields)).json()
    return answer


async def test_what_a_device_hears(tmp_path: Path) -> None:
    async with open_auth_rig(tmp_path, device_interval=5) as rig:
        codes = await begin(rig)
        assert codes["verification_uri"] == f"{rig.url}/device"
        assert set(codes["user_code"].replace("-", "")) <= set(ALPHABET)
        assert (await poll(rig, codes))["error"] == "authorization_pending"
        assert (await poll(rig, codes))["error"] == "slow_down"
        rig.clock.ahead += timedelta(seconds=6)
        # The interval is ten seconds now.
        assert (await poll(rig, codes))["error"] == "slow_down"
        rig.clock.ahead += timedelta(seconds=16)
        assert (await poll(rig, codes))["error"] == "authorization_pending"
        rig.clock.ahead += timedelta(minutes=10)
        assert (await poll(rig, codes))["error"] == "expired_token"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password", "device_code": "x", "client_id": "x"}, "unsupported_grant_type"),
        ({"grant_type": DEVICE_GRANT, "device_code": "x", "client_id": "x"}, "invalid_grant"),
        ({"grant_type": DEVICE_GRANT, "device_code": "x\x00", "client_id": "x"}, "invalid_request"),
    ],
)
async def test_errors_are_those_of_oauth(tmp_path: Path, fields: dict[str, str], error: str) -> None:
    async with open_auth_rig(tmp_path) as rig:
        answer = await rig.form("/oauth/token", **fields)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("typed", ["bcdf-ghjk", "BCDFGHJK", " b c d f g h j k ", "BCDF\u2013GHJK"])
def test_a_user_code_may_be_typed_in_many_ways(typed: str) -> None:
    assert read_user_code(typed) == "BCDF-GHJK"


@pytest.mark.parametrize("typed", ["", "BCDF", "ABCD-EFGH", "BCDF-GHJKL", "\uff22CDF-GHJK"])
def test_what_is_no_user_code(typed: str) -> None:
    assert read_user_code(typed) == ""


async def try_password(rig: AuthRig, token: str, password: str) -> tuple[int, int]:
    change = {"current": password, "new": PASSWORD + "!"}
    answer = await rig.ask("PUT", "/v1/users/me/password", change, token=token)
    return answer.status_code, int(answer.headers.get("retry-after", 0))


async def test_guesses_at_an_account_are_slowed_for_everybody(tmp_path: Path) -> None:
    async with open_auth_rig(tmp_path) as rig:
        ann = await rig.user("ann")
        for _ in range(5):
            assert await try_password(rig, ann, "wrong") == (403, 0)
        waits = []
        for _ in range(8):
            status, wait = await try_password(rig, ann, PASSWORD)
            assert status == 429, "the right password does not help one who must wait"
            waits.append(wait)
            rig.clock.ahead += timedelta(seconds=wait)
            assert (await try_password(rig, ann, "wrong"))[0] == 403
        assert waits == sorted(waits)
        assert waits[-1] == 60
        rig.clock.ahead += timedelta(seconds=60)
        assert (await try_password(rig, ann, PASSWORD))[0] == 204
        assert (await try_password(rig, ann, "wrong"))[0] == 403


async def test_guesses_from_an_address_are_slowed_for_all_accounts(tmp_path: Path) -> None:
    async with open_auth_rig(tmp_path, attempts=(3, 0.001)) as rig:
        tokens = [await rig.user(f"user{n}") for n in range(4)]
        statuses = [(await try_password(rig, token, "wrong"))[0] for token in tokens]
        assert statuses == [403, 403, 403, 429]


async def test_passwords() -> None:
    passwords = Passwords(time_cost=1, memory_cost=8)
    stored = await passwords.hash(PASSWORD)
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored
    assert await passwords.verify(stored, PASSWORD)
    assert not await passwords.verify(stored, PASSWORD + "x")
    assert not await passwords.verify(None, PASSWORD)
    assert not await passwords.verify("rubbish", PASSWORD)
    assert not passwords.outdated(stored)
    assert Passwords(time_cost=2, memory_cost=8).outdated(stored)
    for bad in ("short", "x" * 1_025):
        with pytest.raises(ValueError, match="12 to 1024 characters"):
            await passwords.hash(bad)
