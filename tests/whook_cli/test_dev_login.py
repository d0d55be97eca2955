"""While `whook dev` runs, `whook events` works in another terminal; a login of one's own is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE
from tests.support.dev import whook_dev
from tests.support.rawhttp import post
from tests.support.whook_process import clean_environment
from whook_cli.credentials import Login, read_logins, store_login
from whook_cli.dev_login import USER, lent_login

SERVER, AUTH = "http://127.0.0.1:8081", "http://127.0.0.1:8084"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    environment = clean_environment(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        if name in environment:
            monkeypatch.setenv(name, environment[name])
        else:
            monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_events_in_another_terminal(home: Path) -> None:
    with whook_dev(home) as dev:
        (server,) = read_logins()
        assert post(dev.port, dev.host, b"{}").status == 200
        command = [sys.executable, "-m", "whook_cli", "events", "list", "demo", "--server", server, "--json"]
        listed = subprocess.run(
            command,
            env=clean_environment(home),
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert (listed.returncode, listed.stderr) == (0, "")
        for line in listed.stdout.splitlines():  # it may be recorded a moment later
            assert json.loads(line)["project"] == "demo"
        assert dev.process.stop() == 0
    assert read_logins() == {}


def test_it_is_taken_back() -> None:
    with lent_login(SERVER, AUTH, "whk_lent"):
        assert read_logins() == {SERVER: Login(token="whk_lent", user=USER, auth_url=AUTH)}
        with lent_login(SERVER, AUTH, "whk_next"):  # as after a process that was killed
            assert read_logins()[SERVER].token == "whk_next"
    assert read_logins() == {}


def test_a_login_of_ones_own_stays() -> None:
    own = Login(token="whk_own", user="ann", auth_url=AUTH)
    store_login(SERVER, own)
    with lent_login(SERVER, AUTH, "whk_lent"):
        assert read_logins() == {SERVER: own}
    assert read_logins() == {SERVER: own}
