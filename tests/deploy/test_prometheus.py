"""What deploy/prometheus, deploy/alertmanager and deploy/grafana ship, with the real promtool and Prometheus.

Grafana itself is not run: its dashboards are checked for their form, and each of their queries is asked of a
Prometheus that scrapes a cluster in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster import free_ports
from tests.support.dashboards import FILES, load, metrics, panels, queries, variables
from tests.support.deployment import PROJECTS, Deployment, running_deployment
from tests.support.haproxy import find_haproxy
from tests.support.prometheus import SHIPPED, find_program, run_tool, running_prometheus, scrape
from tests.support.whook_process import WhookProcess

ROOT = Path(__file__).parents[2]
RULES = SHIPPED / "rules"
REFERENCE = (ROOT / "docs" / "operate" / "reference.md").read_text("utf-8")
RUNBOOK = (ROOT / "docs" / "operate" / "alerts.md").read_text("utf-8")
ALERTS = re.findall(r"^ +- alert: (\w+)$", (RULES / "alerts.yml").read_text("utf-8"), re.MULTILINE)
RECORDED = re.findall(r"^ +- record: (\S+)$", (RULES / "recording.yml").read_text("utf-8"), re.MULTILINE)
JOBS = {"whook", "whook-conductor", "whook-relay", "whook-auth"}


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if find_program(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def listed_metrics() -> set[str]:
    section = REFERENCE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(whook_\w+)` \|", section, re.MULTILINE))


@needs("promtool")
def test_the_configuration_and_its_rules_are_valid() -> None:
    assert run_tool("promtool", "check", "config", str(SHIPPED / "prometheus.yml")) == ""
    assert run_tool("promtool", "check", "rules", *map(str, sorted(RULES.glob("*.yml")))) == ""


@needs("promtool")
def test_the_rules_pass_their_unit_tests() -> None:
    assert run_tool("promtool", "test", "rules", str(SHIPPED / "tests" / "alerts.yml")) == ""


@needs("amtool")
def test_the_configuration_of_alertmanager_is_valid() -> None:
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    assert run_tool("amtool", "check-config", str(path)) == ""


def test_every_alert_is_tested_and_has_its_entry_in_the_runbook() -> None:
    tests = yaml.safe_load((SHIPPED / "tests" / "alerts.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    stays = {case["alertname"] for case in cases if not case["exp_alerts"]}
    headings = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert len(ALERTS) > 20
    assert fires == stays == set(ALERTS)
    assert headings == ALERTS
    for entry in RUNBOOK.split("\n## ")[1:]:
        assert "**Look at**" in entry
        assert "**Do**" in entry


def test_the_runbook_has_the_expressions_that_count() -> None:
    [group] = yaml.safe_load((RULES / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]:
        entry = RUNBOOK.partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]
        assert f"`{' '.join(rule['expr'].split())}`" in entry
        assert f"*{rule['labels']['severity']}*" in entry
        assert rule["annotations"]["runbook"].endswith(f"alerts.md#{rule['alert'].lower()}")


def test_rules_ask_only_for_metrics_that_there_are() -> None:
    text = "".join(path.read_text("utf-8") for path in RULES.glob("*.yml"))
    assert metrics(text) <= listed_metrics() | {name.rpartition(":")[2] for name in RECORDED}
    assert set(re.findall(r"\b(?:whook|instance):[\w:]+", text)) == set(RECORDED)
    assert set(re.findall(r'job="([\w-]+)"', text)) <= JOBS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_is_complete(path: Path) -> None:
    dashboard = load(path)
    assert dashboard["uid"] == path.stem
    assert "whook" in dashboard["tags"]
    assert "id" not in dashboard, "a dashboard that is provisioned has no number of its own"
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert "datasource" in names
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert variables(target["expr"]) <= names | {"__rate_interval"}
            assert metrics(target["expr"]) <= listed_metrics(), panel["title"]
            if panel["type"] == "timeseries":
                # Grafana's own: never shorter than what has a rate.
                assert "rate(" not in target["expr"] or "[$__rate_interval]" in target["expr"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_panel_lies_on_another(path: Path) -> None:
    places: set[tuple[int, int]] = set()
    for panel in load(path)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not covered & places, panel["title"]
        places |= covered


def test_the_dashboards_are_those_that_the_documentation_names() -> None:
    guide = (ROOT / "docs" / "operate" / "monitoring.md").read_text("utf-8")
    assert [path.stem for path in FILES] == sorted(
        f"whook-{name}" for name in ("auth", "conductor", "overview", "queue", "relay")
    )
    for path in FILES:
        assert f"`{path.name}`" in guide


def test_provisioning_finds_data_source_and_dashboards() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "whook.yml").read_text("utf-8"))["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards" / "whook.yml").read_text("utf-8"))["providers"]
    configuration = yaml.safe_load((SHIPPED / "prometheus.yml").read_text("utf-8"))
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == configuration["global"]["scrape_interval"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/etc/grafana/")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if find_haproxy() is None:
        pytest.skip("not installed: haproxy")
    with running_deployment(tmp_path_factory.mktemp("deployment")) as found:
        yield found


@pytest.mark.slow_deploy
@pytest.mark.timeout(240)
@needs("prometheus", "promtool")
def test_every_query_of_every_dashboard_has_data(deployment: Deployment) -> None:
    with deployment.load() as sending:
        deployment.store_and_deliver()
        sending.wait_for_seconds(5)
    assert not sending.failed(), sending.summary()
    assert sum(1 for path in FILES for _ in queries(path)) > 100
    assert deployment.empty_queries() == []
    assert deployment.prometheus.value("max(whook:tunnels:sum)") == len(PROJECTS)


@pytest.mark.slow_deploy
@pytest.mark.timeout(240)
@needs("prometheus", "promtool")
def test_what_every_daemon_publishes_keeps_to_the_conventions(deployment: Deployment) -> None:
    published: set[str] = set()
    for member in deployment.cluster.members:
        text = scrape(member.admin)
        assert run_tool("promtool", "check", "metrics", stdin=text) == ""
        published |= names(text)
    assert published == listed_metrics()


@pytest.mark.slow_deploy
@pytest.mark.timeout(240)
@needs("prometheus", "promtool")
def test_series_do_not_grow_with_projects(deployment: Deployment) -> None:
    text = b"".join(scrape(member.admin) for member in deployment.cluster.members).decode()
    assert not [line for line in text.splitlines() if any(project in line for project in PROJECTS)]
    assert "tun_" not in text
    assert "prj_" not in text


@pytest.mark.slow_deploy
@pytest.mark.timeout(240)
@needs("prometheus", "promtool")
def test_the_all_in_one_server_has_all_metrics_and_a_job(tmp_path: Path) -> None:
    port, *others = free_ports(6)
    options = ("--port", "--api-port", "--tunnel-port", "--auth-port")
    ports = [word for pair in zip(options, map(str, others), strict=False) for word in pair]
    command = ("serve", *ports, "--admin-port", str(port), "--data-dir", str(tmp_path / "data"))
    with WhookProcess(*command, home=tmp_path) as server:
        server.wait_log("conductor ready")
        targets = {"whook": [port]}
        with running_prometheus(tmp_path / "prometheus", port=others[-1], targets=targets) as prometheus:
            text = scrape(port)
            assert run_tool("promtool", "check", "metrics", stdin=text) == ""
            assert names(text) == listed_metrics()
            prometheus.wait_value('whook_ready{job="whook", daemon="whook"}')
            prometheus.wait_alert("WhookNothingScraped", firing=False)  # it fired until the first scrape
            assert not [one for one in prometheus.alerts() if one.state == "firing"]


def names(text: bytes) -> set[str]:
    """Give whook's metrics in what a daemon publishes, as the reference names them."""
    kinds = dict(re.findall(r"^# TYPE (whook_\w+) (\w+)$", text.decode(), re.MULTILINE))
    return set(kinds)
