"""What the units say about the daemons is true of them: limits of time, names of secrets and of sockets.

Whether systemd understands the units, and how much they expose, is in tests/system/test_systemd.py.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from whook.backplane.compose import BackplaneSettings
from whook.chassis.daemon import LAST_RESORT
from whook.chassis.settings import DaemonSettings, Settings
from whook_auth.settings import AuthSettings
from whook_conductor.settings import ConductorSettings
from whook_relay.settings import RelaySettings

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
SOCKETS = sorted(path.name for path in UNITS.glob("*.socket"))
SECTIONS: list[type[Settings]] = [BackplaneSettings, AuthSettings, ConductorSettings, RelaySettings]


def read(name: str) -> dict[str, list[str]]:
    """Give what a unit sets, by key; systemd's own syntax allows keys to be repeated."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (UNITS / name).read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_time_to_drain_and_is_watched(name: str) -> None:
    unit = read(name)
    drain = DaemonSettings.model_fields["drain_seconds"].default
    assert float(unit["TimeoutStopSec"][0]) > drain + LAST_RESORT
    assert (unit["Type"], unit["NotifyAccess"], unit["DynamicUser"]) == (["notify"], ["main"], ["yes"])
    assert float(unit["WatchdogSec"][0]) > 0
    assert unit["Restart"] == ["on-failure"]
    assert float(unit["RestartSec"][0]) > 0
    # More than a process may ever hold: connections of senders, tunnels.
    assert int(unit["LimitNOFILE"][0]) > 2 * RelaySettings.model_fields["capacity"].default


@pytest.mark.parametrize("name", SERVICES)
def test_credentials_are_secrets_that_the_daemon_has(name: str) -> None:
    known = {f"{section.section}.{secret}" for section in SECTIONS for secret in section._secrets()}
    for value in read(name)["LoadCredential"]:
        assert value.partition(":")[0] in known


@pytest.mark.parametrize("name", SOCKETS)
def test_a_service_asks_for_its_socket_by_name(name: str) -> None:
    socket, service = read(name), read(name.replace(".socket", ".service"))
    [descriptor] = socket["FileDescriptorName"]
    assert any(value.endswith(f"_LISTEN=systemd:{descriptor}") for value in service["Environment"])
    assert service["Requires"] == [name]
    assert name in service["After"][0].split()
    assert int(socket["Backlog"][0]) >= 4096
