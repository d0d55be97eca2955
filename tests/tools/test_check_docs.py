"""The documentation checker finds what is broken and leaves alone what is not."""

from pathlib import Path

import pytest

from tools.check_docs import check, main, slug


def write(root: Path, **pages: str) -> None:
    for name, text in pages.items():
        path = root / (name.replace("__", "/") + ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Plain words", "plain-words"),
        ("`whook dev`: the first minute", "whook-dev-the-first-minute"),
        ("Say *what* and [why](why.md)", "say-what-and-why"),
        ("snake_case, really?", "snake_case-really"),
        ("Größe & naïve", "größe--naïve"),
    ],
)
def test_slug_follows_the_forges(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_good_links_pass(tmp_path: Path) -> None:
    write(
        tmp_path,
        README="# Top\n[a](docs/guide.md#second-part) [b](#top) [c](https://example.org/x_(y)) [d][ref]\n\n"
        '[ref]: docs/guide.md "title"\n![pic](docs/pic.png "a picture")\n',
        docs__guide="# Guide\n## Second part\n## Second part\n[again](#second-part-1)\n"
        "[up](../README.md)\n<a id='x'></a>[x](#x)\n",
    )
    (tmp_path / "docs" / "pic.png").touch()
    assert check(tmp_path) == []


def test_each_broken_link_is_named_with_its_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        README="one\n[a](missing.md)\n[b](docs/guide.md#nowhere)\n[c](../../etc/passwd)\n[d](ftp://example.org)\n[e][none]\n",
        docs__guide="# Guide\n",
    )
    assert [(p.line, p.message) for p in check(tmp_path)] == [
        (2, "no such file: missing.md"),
        (3, "no such heading: docs/guide.md#nowhere"),
        (4, "leads out of the project: ../../etc/passwd"),
        (5, "unexpected kind of link: ftp://example.org"),
        (6, "no definition for [none]"),
    ]


def test_code_is_not_prose(tmp_path: Path) -> None:
    write(
        tmp_path,
        README="```md\n[a](missing.md)\n# not a heading\n```\n`[b](missing.md)`\n~~~\n[c](x.md)\n~~~\n",
    )
    assert check(tmp_path) == []


def test_main_prints_problems_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, README="[a](missing.md)\n")
    assert main(tmp_path) == 1
    assert capsys.readouterr().err == "README.md:1: no such file: missing.md\n"
