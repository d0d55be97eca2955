"""What `whook dev` and `whook serve` say when they cannot start, and who gets to see the admin token."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE
from tests.support.dev import PORT_OPTIONS
from tests.support.whook_process import WhookProcess, clean_environment
from whook_cli.exits import ExitCode

FREE = tuple(word for option in PORT_OPTIONS for word in (option, "0"))


def refused(home: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command that ends by itself; give its status and its last line on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "whook_cli", *arguments],
        cwd=home,
        env=clean_environment(home) | (env or {}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--deadline", "0", "whook: --deadline: Input should be greater than 0"),
        ("--domain", "a/b", "whook: --domain: give a bare host name, such as hooks.example.com"),
        ("--drain-timeout", "0", "whook: --drain-timeout: Input should be greater than 0"),
        (
            "--public-url",
            "hooks.example.com",
            "whook: --public-url 'hooks.example.com': write it as https://",
        ),
        (
            "--public-url",
            "https://a.example/x",
            "whook: --public-url 'https://a.example/x': write it as https:",
        ),
        ("--tunnel-url", "https://a.example", "whook: --tunnel-url 'https://a.example': write it as wss://"),
    ],
)
def test_an_impossible_setting_is_named_as_the_option_is(
    option: str, value: str, said: str, tmp_path: Path
) -> None:
    status, line = refused(tmp_path, "serve", *FREE, option, value)
    assert (status, line[: len(said)]) == (ExitCode.USAGE, said)


def test_an_impossible_variable_is_named_as_it_was_set(tmp_path: Path) -> None:
    status, line = refused(tmp_path, "serve", *FREE, env={"WHOOK_RELAY_HEARTBEAT": "0"})
    assert (status, line) == (ExitCode.USAGE, "whook: WHOOK_RELAY_HEARTBEAT: Input should be greater than 0")


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_client_without_the_server_says_what_to_install(command: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sqlalchemy'] = None\n")
    status, line = refused(tmp_path, command, *FREE, env={"PYTHONPATH": str(tmp_path)})
    assert status == ExitCode.SERVER
    assert line.startswith("whook: the server is not installed here, only the client: sqlalchemy is missing")


def test_dev_leaves_the_admin_token_to_serve(tmp_path: Path) -> None:
    def shown(*command: str) -> bool:
        place = ("--data-dir", str(tmp_path / "data"))
        with WhookProcess(*command, *FREE, *place, home=tmp_path) as process:
            if command[0] == "dev":
                process.wait_event("ready")
            else:
                process.wait_line("data ")
            assert process.stop() == ExitCode.OK
            return any(line.startswith("admin token  whk_") for line in process.output)

    assert [shown("dev", "--json"), shown("serve"), shown("serve")] == [False, True, False]


def test_an_impossible_storage_key_is_named_and_not_shown(tmp_path: Path) -> None:
    status, line = refused(tmp_path, "serve", *FREE, env={"WHOOK_BACKPLANE_STORAGE_KEY": "secret"})
    assert status == ExitCode.USAGE
    assert line.startswith("whook: WHOOK_BACKPLANE_STORAGE_KEY: a key is 32 random bytes")
    assert "secret" not in line


def test_the_queue_is_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    command = ("serve", *FREE, "--data-dir", str(tmp_path / "data"))
    key = {"WHOOK_BACKPLANE_STORAGE_KEY": "00" * 32}
    with WhookProcess(*command, home=tmp_path, env=key) as process:
        process.wait_line("data ")
        assert (tmp_path / "data" / "queue.sqlite3").stat().st_mode & 0o777 == 0o600
        assert process.stop() == ExitCode.OK
