"""Error reports with a real tracker: what a daemon contained arrives in Bugsink, and is found there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.bugsink import running_bugsink
from tests.support.dev import whook_serve
from tests.support.torn import STORAGE_KEY, fail_a_delivery
from whook.chassis import metrics


@pytest.mark.slow_deploy
def test_an_error_in_a_real_daemon_arrives_in_bugsink(tmp_path: Path) -> None:
    with running_bugsink(tmp_path / "bugsink") as bugsink:
        env = {
            "WHOOK_DAEMON_ERROR_DSN": bugsink.dsn,
            "WHOOK_DAEMON_ERROR_ENVIRONMENT": "test",
            "WHOOK_BACKPLANE_STORAGE_KEY": STORAGE_KEY,
        }
        with whook_serve(tmp_path / "whook", "--log-format", "json", env=env) as server:
            event_id = fail_a_delivery(server)
            event = bugsink.wait_event(event_id=event_id)
            assert not [line for line in server.process.errors if "cannot be reported" in line]
        assert event["release"] == f"whook@{metrics.version()}"
        assert event["environment"] == "test"
        assert event["tags"]["service"] == "whook"
        assert event["transaction"] == "a delivery failed inside the conductor"
        assert event["exception"]["values"][-1]["type"] == "SealError"
        assert STORAGE_KEY not in str(event)
