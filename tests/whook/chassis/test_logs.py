"""Logs: JSON on pipes, console on terminals, nothing secret, and never a failure of their own."""

import contextlib
import io
import json
import logging
import os
import pty
import subprocess
import sys
import warnings

import pytest

from whook.chassis import logs

pytestmark = pytest.mark.usefixtures("restored_logging")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_json() -> None:
    stream = io.StringIO()
    logs.configure_logging(stream=stream)
    logs.get_logger("whook.test").info("tunnel opened", project="shöp", count=3, odd=object)
    (line,) = lines(stream)
    assert line["event"] == "tunnel opened"
    assert line["logger"] == "whook.test"
    assert line["level"] == "info"
    assert line["project"] == "shöp"
    assert str(line["timestamp"]).endswith("Z")
    assert "shöp" in stream.getvalue()


def test_a_logger_made_before_follows_the_configuration() -> None:
    log = logs.get_logger("whook.test")
    stream = io.StringIO()
    logs.configure_logging(stream=stream)
    log.info("here")
    assert lines(stream)[0]["event"] == "here"


def test_levels_below_are_dropped() -> None:
    stream = io.StringIO()
    logs.configure_logging(level="warning", stream=stream)
    log = logs.get_logger("whook.test")
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_one_line_for_an_exception_group_and_no_local_variables() -> None:
    stream = io.StringIO()
    logs.configure_logging(stream=stream)

    def fail(password: str) -> None:
        raise ExceptionGroup("two", [ValueError("first"), KeyError("second")])

    try:
        fail("hunter" + "2")
    except ExceptionGroup:
        logs.get_logger("whook.test").exception("failed")
    (line,) = lines(stream)
    assert "ValueError: first" in str(line["exception"])
    assert "KeyError: 'second'" in str(line["exception"])
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_masked(form: logs.Format) -> None:
    stream = io.StringIO()
    logs.configure_logging(form, stream=stream)
    logs.get_logger("whook.test").info("login", token="whk_1", authorization="Bearer whk_1", token_id="tok_7")
    assert "whk_1" not in stream.getvalue()
    assert logs.MASK in stream.getvalue()
    assert "tok_7" in stream.getvalue()


def test_standard_logging_and_warnings_come_out_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure_logging(stream=stream)
    logging.getLogger("hypercorn.error").error("broken %s", "pipe")
    logging.getLogger("httpx").info("routine")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == ("broken pipe", "hypercorn.error", "error")
    assert "careful" in str(second["event"])


def test_a_reader_that_went_away_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w", buffering=1)
    logs.configure_logging(stream=stream)
    logs.get_logger("whook.test").info("lost")
    logging.getLogger("other").error("lost as well")
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    logs.get_logger("whook.test").info("after it was closed")


SCRIPT = """
from whook.chassis import logs
logs.configure_logging()
logs.get_logger("whook.test").info("hello", project="shop")
"""


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_a_terminal_gets_readable_lines(no_color: str, colored: bool) -> None:
    master, slave = pty.openpty()
    environment = os.environ | {"NO_COLOR": no_color, "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=slave, check=True, timeout=30, env=environment)
    os.close(slave)
    text = os.read(master, 65_536).decode()
    os.close(master)
    assert "hello" in text
    assert not text.startswith("{")
    assert ("\x1b[" in text) == colored
