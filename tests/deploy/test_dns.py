"""The zone and the name servers' configurations that are shipped, checked and asked with real programs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE
from tests.support.dns import AAAA, NOT_FOUND, ask, find, free_port, running
from tests.support.edge import DEPLOY, DOMAIN
from whook.chassis.names import check_project_name

DNS = DEPLOY / "dns"
ZONE = DNS / f"{DOMAIN}.zone"
knot = pytest.mark.skipif(find("knotd") is None, reason="Knot DNS (knotd) is not installed")
dnsmasq = pytest.mark.skipif(find("dnsmasq") is None, reason="dnsmasq is not installed")


def program(name: str) -> str:
    found = find(name)
    assert found is not None
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)


def place(folder: Path, port: int) -> Path:
    """Give Knot's configuration with its files in this folder, on this port of loopback."""
    text = (DNS / "knot.conf").read_text("utf-8")
    for old, new in {
        "192.0.2.53@53, 2001:db8::53@53": f"127.0.0.1@{port}",
        "/run/knot": str(folder),
        "/var/lib/knot": str(folder),
        "/etc/knot": str(folder),
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / ZONE.name).write_text(ZONE.read_text("utf-8"), "utf-8")
    configuration = folder / "knot.conf"
    configuration.write_text(text, "utf-8")
    return configuration


def test_no_project_can_have_a_name_that_the_zone_gives_away() -> None:
    for name in re.findall(r"^([a-z][\w-]*) .*\bIN A\b", ZONE.read_text("utf-8"), re.MULTILINE):
        with pytest.raises(ValueError, match="reserved"):
            check_project_name(name)


@knot
def test_knot_understands_the_zone(tmp_path: Path) -> None:
    configuration = place(tmp_path, free_port())
    for action in ("conf-check", "zone-check"):
        done = run(program("knotc"), "-c", str(configuration), action)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr, done.stderr


@pytest.mark.skipif(find("kzonecheck") is None, reason="kzonecheck is not installed")
def test_kzonecheck_finds_nothing() -> None:
    done = run(program("kzonecheck"), "-o", DOMAIN, str(ZONE))
    assert done.returncode == 0, done.stdout + done.stderr


@knot
@pytest.mark.slow_deploy
def test_knot_answers_for_every_name(tmp_path: Path) -> None:
    port = free_port()
    with running([program("knotd"), "-c", place(tmp_path, port)]):
        expected = {
            "shop": "192.0.2.10",
            "Any-Other": "192.0.2.10",
            "api": "192.0.2.10",
            "auth": "192.0.2.10",
            "relay-1": "192.0.2.21",
            "relay-2": "192.0.2.22",
        }
        for name, address in expected.items():
            assert ask(port, f"{name}.{DOMAIN}") == (0, True, [address])
        assert ask(port, DOMAIN) == (0, True, ["192.0.2.10"])
        assert ask(port, f"relay-1.{DOMAIN}", AAAA).addresses == ["2001:db8::21"]
        assert ask(port, f"shop.{DOMAIN}", AAAA).addresses == ["2001:db8::10"]
        assert ask(port, f"nobody.relay-1.{DOMAIN}").code == NOT_FOUND


@dnsmasq
def test_dnsmasq_understands_the_configuration() -> None:
    done = run(program("dnsmasq"), "--test", "-C", str(DNS / "dnsmasq.conf"))
    assert done.returncode == 0, done.stdout + done.stderr


@dnsmasq
@pytest.mark.slow_deploy
def test_dnsmasq_gives_this_machine_for_every_name(tmp_path: Path) -> None:
    port = free_port()
    text = (DNS / "dnsmasq.conf").read_text("utf-8")
    for old, new in {"port=53\n": f"port={port}\n", "127.0.0.53": "127.0.0.1"}.items():
        assert old in text
        text = text.replace(old, new)
    configuration = tmp_path / "dnsmasq.conf"
    configuration.write_text(text, "utf-8")
    options = ("--no-daemon", "--no-hosts", "--no-resolv", "--user=", "--pid-file")
    with running([program("dnsmasq"), *options, "-C", configuration]):
        for name in ("hooks.test", "shop.hooks.test", "relay-1.hooks.test", "a.b.hooks.test"):
            assert ask(port, name).addresses == ["127.0.0.1"]
            assert ask(port, name, AAAA).addresses == ["::1"]
