"""The command line itself: help, versions, errors in one line, and an exit status for each of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE
from tests.support.whook_process import clean_environment
from whook_cli.app import run
from whook_cli.exits import ExitCode


@pytest.fixture(autouse=True)
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WHOOK_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("whook: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("conect", 'Unknown command "conect". Did you mean "connect"?'),
        ("connect --forwrd 3000", "Unknown option: --forwrd. Did you mean --forward?"),
        ("connect", "which project? (whook connect PROJECT, or project = "),
        ("connect a b", "Unused Tokens: ['b']."),
        ("connect shop --respond soon", 'unable to convert "soon" into int'),
        ("connect shop --respond 99", "--respond 99 is not a final HTTP status (200 to 599)"),
        ("connect shop --respond 204 --respond-body x", "has no body by definition"),
        ("connect shop --respond-body @missing", "cannot read missing: No such file"),
        ("connect shop --forward ftp://x", "cannot forward to 'ftp://x': 'ftp' is neither http nor https"),
        ("connect shop --server nonsense", "--server 'nonsense' is not an http or https URL"),
        ("connect shop --takeover --watch", "--takeover and --watch exclude each other"),
        ("connect shop --max-exchanges 0", "--max-exchanges 0: 1 to 65536"),
        ("connect shop --drain-timeout -1", "--drain-timeout -1: 0 to 3600 seconds"),
        ("connect shop --drain-timeout nan", "--drain-timeout nan: 0 to 3600 seconds"),
        ("connect shop --host-header maybe", "--host-header"),
        ("connect shop --token", "--token"),
        ("dev --forward h?x", "cannot forward to 'h?x': it has a query"),
        ("serve --drain-timeout 9999", "--drain-timeout 9999"),
    ],
)
def test_usage_errors(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments.split()
    if words[:2] == ["connect", "shop"]:
        words += [] if "--token" in words else ["--token", "whk_secret"]
    assert run(words) == ExitCode.USAGE
    line = one_line(capsys)
    assert said in line
    assert "whk_secret" not in line


@pytest.mark.parametrize("place", ["file", "environment"])
def test_errors_outside_the_command_line(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "file":
        Path("whook.toml").write_text('foward = "3000"\n')
    else:
        monkeypatch.setenv("WHOOK_FORWARD", "h?x")
    assert run(["connect", "shop", "--token", "t"]) == ExitCode.USAGE
    line = one_line(capsys)
    assert ("whook.toml" in line and '"foward"' in line) if place == "file" else "h?x" in line


@pytest.mark.parametrize("token", [[], ["--token", ""], ["--token", "  "]])
def test_no_token(token: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "shop", *token]) == ExitCode.UNAUTHORIZED
    assert "no token for http://127.0.0.1:8081 (run whook login" in one_line(capsys)


def test_hostile_text_in_an_error_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "shop", "--forward", "\x1b[2J"]) == ExitCode.USAGE
    assert "\x1b" not in one_line(capsys)


@pytest.mark.parametrize("arguments", [["--version"], ["-V"], ["version"]])
def test_versions(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.OK
    assert capsys.readouterr().out.startswith("whook 0.")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["connect", "dev", "serve", "version", "completion", "whook.toml"]),
        (["connect", "--help"], ["--forward", "WHOOK_FORWARD", "--watch", "--respond-body", "--json"]),
        (["dev", "--help"], ["--forward", "--port", "--data-dir", "WHOOK_DATA_DIR"]),
        (["serve", "--help"], ["--listen", "--domain", "--max-body", "--log-format"]),
    ],
)
def test_help(arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.OK
    out = capsys.readouterr().out
    assert [part for part in parts if part not in out] == []


def test_help_does_not_show_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHOOK_TOKEN", "whk_secret")
    run(["connect", "--help"])
    assert "whk_secret" not in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "show", "--shell", shell]) == ExitCode.OK
    assert "connect" in capsys.readouterr().out
    assert run(["completion", "install", "--shell", shell]) == ExitCode.OK
    said = capsys.readouterr().out
    installed = Path(said.split(" is in ")[1].split(";")[0])
    assert installed.is_relative_to(tmp_path)
    assert "connect" in installed.read_text()


def whook(*arguments: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a whole process to its end."""
    return subprocess.run(
        [sys.executable, "-m", "whook_cli", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=home,
        env=clean_environment(home) | env,
        check=False,
    )


def test_a_process_says_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = whook("connect", "shop", "--forward", "nowhere:x", home=tmp_path, WHOOK_TOKEN="t")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("whook: cannot forward to 'nowhere:x': 'x' is not a port")
    assert done.stderr.count("\n") == 1


def test_help_and_version_load_nothing_heavy(tmp_path: Path) -> None:
    heavy = "{'trio', 'httpx', 'msgspec', 'ssl', 'trio_websocket', 'fastapi', 'sqlalchemy', 'rich'}"
    check = (
        "import sys; from whook_cli.app import run; code = run(sys.argv[1:]);"
        f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, "version"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        check=True,
    )
    assert done.stderr.strip() == "[]"


def test_the_client_loads_nothing_of_the_server_and_no_rich(tmp_path: Path) -> None:
    check = (
        "import sys, whook_cli.commands;"
        "heavy = {'httpx', 'fastapi', 'sqlalchemy', 'hypercorn', 'structlog', 'jwt', 'rich',"
        "'whook_conductor', 'whook_relay', 'whook_auth', 'whook.chassis', 'whook.backplane'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.strip() == "[]"
