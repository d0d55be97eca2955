"""The check of the built site finds what leads nowhere and what is loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_site import check, main

WHOLE = '<a href="b.html#x">b</a> <a href="https://example.org">e</a> <a href="#top">t</a> <p id="top">'


def write(site: Path, **pages: str) -> None:
    for name, text in pages.items():
        (site / f"{name}.html").write_text(text, "utf-8")


def test_a_whole_site_passes(tmp_path: Path) -> None:
    (tmp_path / "s.js").touch()
    write(tmp_path, index=WHOLE + '<script src="s.js"></script>', b='<h2 id="x">X</h2><a href=".">up</a>')
    assert check(tmp_path) == []
    assert main(tmp_path) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<a href="c.html">', "nothing at c.html"),
        ('<a href="../../etc/passwd">', "nothing at ../../etc/passwd"),
        ('<a href="b.html#y">', "no such heading: b.html#y"),
        ('<img src="gone.png">', "nothing at gone.png"),
        ('<script src="https://cdn.example/x.js">', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', "loads //fonts.example/a.css"),
    ],
)
def test_what_is_wrong_is_named(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, index=text, b="")
    assert main(tmp_path) == 1
    assert capsys.readouterr().err == f"index.html: {said}\n"


def test_a_folder_without_a_site_is_a_problem(tmp_path: Path) -> None:
    assert main(tmp_path) == 1
