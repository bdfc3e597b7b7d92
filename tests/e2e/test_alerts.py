"""The alert rules and the dashboard: they use existing metrics, fire when they should, and are explained."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from proxy.observability.counters import Counters
from proxy.observability.health import Health
from proxy.observability.metrics import PREFIX
from proxy.observability.prometheus import render
from tests.support.tools import ROOT, need
from tests.unit.observability.test_prometheus import busy, well

RULES: Final = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD: Final = ROOT / "deploy/grafana/stream-proxy.json"
BY_PROMETHEUS: Final = {"job", "namespace", "instance"}  # labels that Prometheus gives to what it scrapes
OPERATIONS: Final = ROOT / "docs/operations.md"


def exposed() -> dict[str, set[str]]:
    """Each series of /metrics, with its labels."""
    body, _ = render(busy(), well())
    found: dict[str, set[str]] = {}
    for line in body.decode().splitlines():
        match = re.match(r"(\w+)(?:{(.*)})? ", line)
        if match is not None and not line.startswith("#"):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def expressions() -> list[str]:
    asked = [
        panel_target["expr"] for panel in dashboard()["panels"] for panel_target in panel.get("targets", ())
    ]
    return [*asked, *(rule["expr"] for rule in alerts())]


def promtool(*arguments: str | Path) -> str:
    command = [need("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_where_it_should_and_none_without_a_cause() -> None:
    cases = RULES.with_name("alerts.test.yaml")
    assert "SUCCESS" in promtool("test", "rules", cases)
    fired = {
        case["alertname"]
        for test in yaml.safe_load(cases.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    known = exposed()
    asked = re.findall(r"\b((?:stream_proxy|process)_\w+)(?:{([^}]*)})?", expression)
    assert asked or expression.startswith("up{"), "it asks for a metric of ours"
    for name, matchers in asked:
        assert name in known or name.startswith("process_"), name
        labels = {*re.findall(r"(\w+)\s*[=!]~?", matchers)} - BY_PROMETHEUS
        assert labels <= known.get(name, set()), expression


def test_promtool_reads_the_dashboards_expressions(tmp_path: Path) -> None:
    asked = [re.sub(r"\$\w+", ".*", expr.replace("$__rate_interval", "5m")) for expr in expressions()]
    rules = [{"record": f"dashboard:{number}", "expr": expr} for number, expr in enumerate(asked)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", path)


def test_the_dashboard_shows_every_metric_there_is() -> None:
    asked = "\n".join(expressions())
    for name in exposed():
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert not name.startswith(PREFIX) or base in asked, name


def test_the_dashboards_panels_have_a_place_and_a_source_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(place["x"], place["y"]) for place in (panel["gridPos"] for panel in panels)]
    assert len({*places}) == len(places)
    for panel in panels:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


def test_the_dashboard_can_be_narrowed_to_a_job_a_namespace_and_an_instance() -> None:
    variables = [variable["name"] for variable in dashboard()["templating"]["list"]]
    assert variables == ["datasource", "job", "namespace", "instance", "team"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            metrics = re.findall(r"\b(?:stream_proxy|process)_\w+({[^}]*})?", target["expr"])
            for matchers in metrics:
                for name in BY_PROMETHEUS:
                    assert f'{name}=~"${name}"' in matchers, target["expr"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_links_to_its_part_of_the_operations_guide(rule: dict[str, Any]) -> None:
    address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert address.endswith("/operations.md")
    assert anchor == rule["alert"].lower(), "as GitHub and most renderers make anchors of headings"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_is_explained_to_operators(rule: dict[str, Any]) -> None:
    assert f"### {rule['alert']}\n" in OPERATIONS.read_text()


def test_no_alert_is_explained_that_is_not_there() -> None:
    explained = re.findall(r"^### (StreamProxy\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in alerts())


def test_an_idle_process_has_metrics_too() -> None:
    body, _ = render(Counters(), Health(0.0, "1"))
    assert b"stream_proxy_draining 0.0" in body
