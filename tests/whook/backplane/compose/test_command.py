"""The command line of the daemons: what --check-config says, and the exit status of every way to fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.postgres import Postgres
from whook.backplane.compose import Command
from whook.backplane.compose.command import EXIT_LISTEN, EXIT_SCHEMA, EXIT_SETTINGS, EXIT_UNAVAILABLE
from whook_auth.main import COMMAND as AUTH
from whook_conductor.main import COMMAND as CONDUCTOR
from whook_relay.main import COMMAND as RELAY

WHOLE = """
[auth]
listen = "127.0.0.1:0"
[backplane]
url = "memory:"
queue_url = "sqlite:///{folder}/queue.db"
auth_url = "http://127.0.0.1:9"
service_key = "SECRET"
conductor_database = "sqlite:///{folder}/conductor.db"
auth_database = "sqlite:///{folder}/auth.db"
[conductor]
listen = "127.0.0.1:0"
api = "127.0.0.1:0"
cluster_key = "SECRET"
[daemon]
admin = ""
[relay]
listen = "127.0.0.1:0"
cluster_key = "SECRET"
"""
EACH = pytest.mark.parametrize("command", [AUTH, CONDUCTOR, RELAY], ids=lambda command: command.name)


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WHOOK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "whook.toml"
    path.write_text(WHOLE.format(folder=tmp_path))
    return path


def fails(capsys: pytest.CaptureFixture[str], command: Command, *arguments: str) -> tuple[int, list[str]]:
    status = command(list(arguments))
    return status, capsys.readouterr().err.splitlines()


@EACH
def test_one_file_serves_all(command: Command, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--config", str(config), "--check-config"]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert "[backplane]" in out
    assert 'admin = ""' in out
    assert "SECRET" not in out


@EACH
def test_nothing_set_names_all_that_is_missing(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    status, faults = fails(capsys, command)
    assert status == EXIT_SETTINGS
    assert all(fault.startswith(f"{command.name}: WHOOK_") for fault in faults)
    assert any("WHOOK_BACKPLANE_URL" in fault for fault in faults)


def test_every_unknown_and_impossible_setting_is_named(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("[relay]", "[relay]\ncapacty = 5\n") + "[daemno]\nx = 1\n")
    monkeypatch.setenv("WHOOK_BACKPLANE_URL", "http://me:SECRET@x")
    monkeypatch.setenv("WHOOK_DAEMON_DRAIN_SECONDS", "soon")
    monkeypatch.setenv("WHOOK_CONFIG", str(config))
    status = RELAY(["--check-config"])
    out, err = capsys.readouterr()
    assert status == EXIT_SETTINGS
    for text in ("[daemno]", "did you mean [daemon]", "capacty", "capacity", "WHOOK_DAEMON_DRAIN_SECONDS"):
        assert text in err
    assert "SECRET" not in out + err


def test_an_impossible_url_is_named(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHOOK_BACKPLANE_URL", "http://me:SECRET@x")
    monkeypatch.setenv("WHOOK_BACKPLANE_CONDUCTOR_DATABASE", "mysql://me:SECRET@x/y")
    status, faults = fails(capsys, CONDUCTOR, "--config", str(config))
    assert status == EXIT_SETTINGS
    assert [fault.split(": ")[1] for fault in faults] == [
        "WHOOK_BACKPLANE_URL",
        "WHOOK_BACKPLANE_CONDUCTOR_DATABASE",
    ]
    assert "SECRET" not in "".join(faults)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("queue_url", "amqp://me:SECRET@x", "redis://"),
        ("queue_url", "sqlite:///:memory:", "sqlite:///PATH"),
        ("queue_url", "", "keeps no queue"),
        ("queue_durability", "hope", "'check' or 'trust'"),
        ("storage_key", "SECRET", "openssl rand -base64 32"),
    ],
)
def test_an_impossible_queue_is_named(
    name: str, value: str, fault: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "".join(line for line in config.read_text().splitlines(keepends=True) if "queue_url" not in line)
    config.write_text(text.replace("[backplane]\n", f'[backplane]\n{name} = "{value}"\n'))
    assert CONDUCTOR(["--config", str(config), "--check-config"]) == EXIT_SETTINGS
    out, err = capsys.readouterr()
    assert name in err.lower()
    assert fault in err
    assert "SECRET" not in out + err


@pytest.mark.parametrize("arguments", [["--confg", "x"], ["--config"], ["upgrade"], ["--config", "/nowhere"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, faults = fails(capsys, RELAY, *arguments)
    assert status == EXIT_SETTINGS
    assert faults


@pytest.mark.parametrize("command", [AUTH, CONDUCTOR], ids=lambda command: command.name)
def test_migrate(command: Command, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("is now", "was already"):
        assert command(["migrate", "--config", str(config)]) == 0
        assert word in capsys.readouterr().out


@pytest.mark.parametrize("command", [AUTH, CONDUCTOR], ids=lambda command: command.name)
def test_a_database_that_is_not_migrated(
    command: Command,
    config: Path,
    tmp_path: Path,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variable = f"WHOOK_BACKPLANE_{command.name.removeprefix('whook-').upper()}_DATABASE"
    monkeypatch.setenv(variable, postgres.database_of(tmp_path))
    status, errors = fails(capsys, command, "--config", str(config))
    assert status == EXIT_SCHEMA
    assert f"run `{command.name} migrate`" in errors[-1]


def test_migrating_a_database_that_is_away(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHOOK_BACKPLANE_CONDUCTOR_DATABASE", "postgresql://me:SECRET@127.0.0.1:9/x")
    status, errors = fails(capsys, CONDUCTOR, "migrate", "--config", str(config))
    assert status == EXIT_UNAVAILABLE
    assert "does not answer" in errors[-1]
    assert "SECRET" not in "".join(errors)


def test_an_address_that_cannot_be_used(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHOOK_RELAY_LISTEN", "192.0.2.1:1")
    status, errors = fails(capsys, RELAY, "--config", str(config))
    assert status == EXIT_LISTEN
    assert "192.0.2.1" in errors[-1]
