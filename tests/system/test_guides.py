"""The guides of docs/ are true: what they say to type runs, and prints what they show.

Here are those that take a few seconds; the others run in `nox -s deploy` (tests/deploy/test_guides.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.guides import Guide, blocks, find

DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = {
    "WHOOK_PORT": 8080,
    "WHOOK_API_PORT": 8081,
    "WHOOK_TUNNEL_PORT": 8082,
    "WHOOK_ADMIN_PORT": 8083,
    "WHOOK_AUTH_PORT": 8084,
}


QUICK = ("use/github.md", "use/scripting.md")
SLOW = ("operate/grow.md", "use/stripe.md", "use/chargebee.md", "use/teams.md", "operate/backup.md")
NOT_RUN = ("operate/install.md", "operate/upgrade.md", "operate/databases.md", "operate/capacity.md")
"""Guides whose commands want what a test cannot have; each block says what."""
SHELLS = {"bash", "console", "sh"}


def follow(name: str, folder: Path) -> None:
    """Follow a guide with ports that nobody else has."""
    for program in ("bash", "curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with Guide(DOCS / name, folder) as guide:
        if not name.endswith("grow.md"):  # its daemons are told by a file
            guide.use_free_ports(**OPTIONS)
            guide.setenv(WHOOK_SERVER=f"http://127.0.0.1:{guide.port(8081)}")
        assert guide.follow() >= 3


@pytest.mark.parametrize("name", QUICK)
def test_what_it_says_runs(name: str, tmp_path: Path) -> None:
    follow(name, tmp_path)


@pytest.mark.parametrize("name", [*QUICK, *SLOW, *NOT_RUN])
def test_every_command_runs_or_says_why_not(name: str) -> None:
    found = [block for block in blocks(DOCS / name) if block.kind in SHELLS]
    assert [block.text for block in found if not block.mark.startswith(("run", "not run: "))] == []
    assert any(block.mark.startswith("run") for block in found) == (name not in NOT_RUN)


@pytest.mark.parametrize(
    ("shown", "printed", "matches"),
    [
        ("12:00:01 POST /a 200 2.1 ms evt_01", "23:59:59 POST   /a  200  13 ms  evt_99ZZ", True),
        ("12:00:01 POST /a 200 2.1 ms evt_01", "23:59:59 POST   /b  200  13 ms  evt_99ZZ", False),
        ("whook: … refuses", "whook: http://x refuses", True),
        ("status 3", "status 30", False),
        ("admin token  whk_…  (once)", "admin token  whk_AbC9  (once)", True),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nb\nc", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, printed: str, matches: bool) -> None:
    lines = printed.splitlines()
    assert (find(shown.splitlines(), lines) == len(lines)) is matches
