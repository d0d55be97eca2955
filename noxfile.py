"""The project's checks, one session each: `nox` runs lint, types, docs and tests; `nox -s bench` measures.

`nox --no-venv` runs a session in the environment that is already active and installs nothing: that is how
`.ci/run` uses it. Everything else installs with constraints.txt, so that a check means the same everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
CHECKED = ("src", "tests", "bench", "tools", "noxfile.py")

CLUSTER_TESTS = [
    f"tests/system/test_{name}.py"
    for name in ("cluster", "cluster_outages", "cluster_races", "storm", "chaos", "durability")
]

# Of flake8-async's rules, those that the house leaves out and why:
# 910, 911  a function that need not wait does not: fast paths must not pay for a checkpoint
# 912       takes a loop that may not run for a scope that cannot be cancelled
# 114, 128  see only `started()` calls in the same function, not a task_status that is passed on
# 124       an implementation of a Protocol is async even where one of the twins never waits
# 127       httpx is what the API client uses
ASYNC_RULES = "ASYNC1,ASYNC900,ASYNC913"
ASYNC_LEFT_OUT = "ASYNC114,ASYNC124,ASYNC127,ASYNC128"

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, extras: str) -> None:
    """Install whook in place with its extras, unless the session runs in the caller's own environment."""
    if session.venv_backend != "none":
        session.install("-c", "constraints.txt", "-e", f".[{extras}]")


def interpreter(version: str) -> str | None:
    """Path of a Python of this version that really starts, or None.

    A pyenv shim stands on the path for every version but starts only the active ones, so pyenv's own folder
    is asked as well.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [
        shutil.which(f"python{version}"),
        *map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}")),
    ]
    for candidate in filter(None, found):
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, Trio's rules and the import contracts."""
    install(session, "lint")
    session.run("ruff", "check", *CHECKED)
    session.run("ruff", "format", "--check", *CHECKED)
    for part in CHECKED:
        files = sorted(str(file) for file in [Path(part), *Path(part).rglob("*.py")] if file.is_file())
        left_out = ASYNC_LEFT_OUT + (",ASYNC102,ASYNC120" if part == "tests" else "")
        session.log(f"flake8-async on {part}")
        rules = (f"--enable={ASYNC_RULES}", f"--disable={left_out}")
        session.run("flake8-async", *rules, *files, silent=True, log=False)
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with two checkers that find different things."""
    install(session, "test,lint,docs")
    session.run("mypy")
    session.run("mypy", "tests/support", "tests/system", "bench", "tools")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Every link and anchor of the documentation leads somewhere, here and on the site, which is built."""
    install(session, "docs")
    session.run("python", "tools/check_docs.py")
    site = Path(session.create_tmp()) / "site"
    session.run("mkdocs", "build", "--strict", "--quiet", "-d", str(site), env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "tools/check_site.py", str(site))
    session.log(f"the site is in {site}")


@nox.session
@nox.parametrize("version", PYTHONS)
def tests(session: nox.Session, version: str) -> None:
    """The test suite on one Python; skipped, and said so, where that Python is not installed."""
    python = interpreter(version)
    if python is None:
        session.skip(f"Python {version} is not installed here")
    environment = Path(session.create_tmp()) / f"python{version}"
    if not (environment / "bin" / "pytest").exists():
        session.run(python, "-m", "venv", "--clear", str(environment), external=True)
        session.run(
            str(environment / "bin" / "python"),
            *("-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", ".[test,bench]"),
            external=True,
        )
    session.run(str(environment / "bin" / "python"), "-m", "pytest", *session.posargs, external=True)


@nox.session
def cluster(session: nox.Session) -> None:
    """Restart, kill and starve a whole cluster under load; needs a machine with nothing else to do."""
    install(session, "test")
    session.run(
        *("python", "-m", "pytest", "-s", *(session.posargs or CLUSTER_TESTS)),
        env={"WHOOK_TEST_CLUSTER": "1"},
    )


def bugsink(session: nox.Session) -> str:
    """Give an environment with Bugsink in it: the one that WHOOK_BUGSINK names, else one that is made here.

    Its requirements are its own. In the caller's environment nothing is installed, so its test skips itself.
    """
    if named := os.environ.get("WHOOK_BUGSINK"):
        return named
    environment = Path(session.create_tmp()) / "bugsink"
    if session.venv_backend != "none" and not (environment / "bin" / "bugsink-manage").exists():
        session.run("python", "-m", "venv", "--clear", str(environment))
        session.run(
            *(str(environment / "bin" / "python"), "-m", "pip", "install", "-q", "bugsink>=2.6,<3"),
            external=True,
        )
    return str(environment)


@nox.session
def deploy(session: nox.Session) -> None:
    """Run what deploy/ ships with the real programs beside a real cluster; says what it had to skip."""
    install(session, "test")
    session.run(
        *("python", "-m", "pytest", "-rs", *(session.posargs or ["tests/deploy"])),
        env={"WHOOK_TEST_DEPLOY": "1", "WHOOK_BUGSINK": bugsink(session)},
    )


@nox.session
def bench_smoke(session: nox.Session) -> None:
    """Run each scenario with tiny sizes: fails on errors, never on times."""
    install(session, "test,bench")
    session.run(
        "python", "-m", "pytest", *(session.posargs or ["tests/bench"]), env={"WHOOK_TEST_CLUSTER": "1"}
    )


@nox.session
def bench(session: nox.Session) -> None:
    """Measure this checkout: the whole suite in under 15 minutes, or `-- SCENARIO [options]`."""
    install(session, "test,bench")  # the clusters come from the tests' support
    session.run("python", "-m", "bench", *session.posargs)
