"""The reference names all that the code has: problems, exit statuses, settings, options, metrics, log events.

What exists is read from the code itself, so that a new problem or setting without its line in the reference
fails here. Problems, metrics and log events are found in the syntax tree, by the calls that make them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from tests.support.records import record
from whook.backplane.compose import BackplaneSettings, command
from whook.backplane.ports import auth_messages
from whook.chassis.settings import DaemonSettings, Settings
from whook_auth.settings import AuthSettings
from whook_cli.app import app
from whook_cli.exits import ExitCode
from whook_cli.options import KEYS
from whook_cli.records import Capture, Details, json_line
from whook_conductor.settings import ConductorSettings
from whook_relay.settings import RelaySettings

ROOT = Path(__file__).parent.parent.parent
REFERENCE = (ROOT / "docs" / "operate" / "reference.md").read_text("utf-8")
INTERNAL_API = (ROOT / "docs" / "reference" / "internal-auth-api.md").read_text("utf-8")
COMMAND_LINE = (ROOT / "docs" / "use" / "cli.md").read_text("utf-8")

PROBLEM_MAKERS = {"Answer", "MessageError", "ProblemError", "_busy", "_refuse", "problem"}
SLUG = re.compile(r"[a-z]+(?:-[a-z]+)*")
PACKAGES = {"whook_auth", "whook_cli", "whook_conductor", "whook_relay"}
NOT_METRICS = PACKAGES | {
    "whook_caller",
    "whook_login",
    "whook_session",
}  # a context variable and two cookies
LEVELS = {"debug", "info", "warning", "error", "exception"}

# What a local server's response may have wrong. It reaches the sender in the detail of `local-failed`.
NOT_ON_THE_WIRE = "whook/http1/response.py"


def rows(text: str, heading: str) -> dict[str, str]:
    """Give the table rows of a section, by the code in their first cell."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, f"no section {heading!r}"
    return {m[1]: m[0] for m in re.finditer(r"^\| `?([^`|]+?)`?(?:,[^|]*)? \|.*$", section, re.MULTILINE)}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "src").rglob("*.py")):
        yield path.relative_to(ROOT / "src").as_posix(), ast.parse(path.read_text("utf-8"))


def called(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def text_of(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def first_slug(arguments: list[ast.expr]) -> str:
    """Give the kind of a problem: the first text, at most behind a status."""
    found = next((text for argument in arguments[:2] if (text := text_of(argument))), "")
    return found if SLUG.fullmatch(found) else ""


def problem_slugs() -> set[str]:
    found: set[str] = set()
    for name, tree in sources():
        if name == NOT_ON_THE_WIRE:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node.func) in PROBLEM_MAKERS:
                found.add(first_slug(node.args))
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2:  # (500, "internal-error")
                status = node.elts[0]
                if isinstance(status, ast.Constant) and status.value in range(400, 600):
                    found.add(first_slug(node.elts))
    return found - {""}


def metric_names() -> set[str]:
    return {
        text
        for _, tree in sources()
        for node in ast.walk(tree)
        if re.fullmatch(r"whook_[a-z_]+", text := text_of(node)) and text not in NOT_METRICS
    }


def log_events() -> set[str]:
    return {
        text
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and called(node.func.value).endswith("log")
        and node.args
        and (text := text_of(node.args[0]))
    }


def status_events() -> set[str]:
    """Give the changes of a tunnel that `--json` tells."""
    return {
        text
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (called(node.func) == "status" or called(node.func) == "StatusRecord")
        and (text := next((text for argument in node.args[:2] if (text := text_of(argument))), ""))
    }


def shown(default: object) -> str:
    """Give a default as the reference writes it."""
    if default is None or default == () or str(default) == "":
        return "none"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_what_is_read_from_the_code_is_there() -> None:
    assert {"no-tunnel", "bad-host", "no-relay", "internal-error", "body-timeout", "local-failed"} <= (
        problem_slugs()
    )
    assert {"whook_requests", "whook_connections", "whook_event_loop_lag_seconds"} <= metric_names()
    assert {"tunnel opened", "connection refused", "draining", "route table loaded"} <= log_events()
    assert {"ready", "lost", "left-out"} <= status_events()


def test_every_problem_is_in_the_reference() -> None:
    assert rows(REFERENCE, "Problems").keys() - {"type", "---"} == problem_slugs()


def test_every_problem_between_daemons_is_in_the_internal_reference() -> None:
    tree = ast.parse((ROOT / "src" / "whook_auth" / "internal_api.py").read_text("utf-8"))
    slugs = {
        getattr(auth_messages, kind.attr) if isinstance(kind, ast.Attribute) else text_of(kind)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node.func) == "ProblemError"
        for kind in node.args[1:2]
    }
    assert {"denied", "service-key"} <= slugs
    assert set(re.findall(r"`urn:whook:problem:([a-z-]+)`", INTERNAL_API)) == slugs


def test_every_metric_is_in_the_reference() -> None:
    listed = {name.removesuffix("_total") for name in rows(REFERENCE, "Metrics") if name.startswith("whook_")}
    assert listed == metric_names()


def test_every_log_event_is_in_the_reference() -> None:
    assert rows(REFERENCE, "Log events").keys() - {"event", "---"} == log_events()


def test_every_exit_status_is_in_both_lists() -> None:
    for text in (rows(REFERENCE, "Exit statuses"), rows(COMMAND_LINE, "Exit status")):
        for code in ExitCode:
            assert f"| {code.value} | {code.name} |" in text[str(code.value)]


def test_every_exit_status_of_the_daemons_is_in_the_reference() -> None:
    listed = rows(REFERENCE, "Exit statuses of the daemons")
    known = {str(value) for name, value in vars(command).items() if name.startswith("EXIT_")}
    assert listed.keys() - {"status", "---"} == known | {"0", "1", "70", "128 + signal"}


@pytest.mark.parametrize(
    "settings", [ConductorSettings, RelaySettings, AuthSettings, BackplaneSettings, DaemonSettings]
)
def test_every_setting_and_its_default_are_in_the_reference(settings: type[Settings]) -> None:
    listed = rows(REFERENCE, "Settings")
    prefix = f"WHOOK_{settings.section.upper()}_"
    assert {name for name in listed if name.startswith(prefix)} == {
        prefix + name.upper() for name in settings.model_fields
    }
    for name, field in settings.model_fields.items():
        assert f"| {shown(field.default)} |" in listed[prefix + name.upper()]


def options(name: str) -> Iterator[tuple[str, object]]:
    """Give every option of a command by its long name, with its default."""
    found = app
    for part in name.split():
        found = found[part]
    for argument in found.assemble_argument_collection():
        kind = argument.field_info.kind
        if argument.parse and argument.name.startswith("--") and kind is kind.KEYWORD_ONLY:
            yield argument.name, argument.field_info.default


def commands(parent: App, path: str = "") -> Iterator[str]:
    """Give every command that has none below it."""
    for name in parent:
        if not name.startswith("-"):
            below = list(commands(parent[name], f"{path}{name} "))
            yield from below or [f"{path}{name}"]


COMMANDS = sorted(commands(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_its_default_are_in_the_command_line_reference(name: str) -> None:
    listed = rows(COMMAND_LINE, "Options")
    for option, default in options(name):
        assert option in listed
        if default is False:
            assert "| off |" in listed[option]
        elif isinstance(default, tuple):
            assert all(shown(one) in listed[option] for one in default)
        elif default not in (None, ""):
            assert shown(default) in listed[option]


def test_every_command_is_in_the_command_line_reference() -> None:
    synopsis = COMMAND_LINE.partition("```\n")[2].partition("```")[0]
    assert {word for name in COMMANDS for word in name.split()} <= set(re.findall(r"[a-z]+", synopsis))


def test_the_command_line_reference_has_no_option_that_is_gone() -> None:
    listed = {name for name in rows(COMMAND_LINE, "Options") if name.startswith("--")} - {"---"}
    assert listed == {f"--{key}" for key in KEYS} | {
        option for name in COMMANDS for option, _ in options(name)
    }


def test_every_json_key_and_event_is_in_the_command_line_reference() -> None:
    section = COMMAND_LINE.partition("\n## `--json`\n")[2].partition("\n## ")[0]
    listed = {m[1] for m in re.finditer(r"^\| `([a-z_-]+)` \|", section, re.MULTILINE)}
    details = Details([], Capture(), b"", [], Capture())
    keys = set(json.loads(json_line(record(details=details))))
    assert keys | {"event", "time"} | status_events() == listed
