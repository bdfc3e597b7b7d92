"""The chart under deploy/helm: rendered by helm, its objects held against the schemas of their kinds."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

from tests.support.tools import ROOT, need

CHART: Final = ROOT / "deploy/helm"
CRDS: Final = Path(__file__).parent / "crds"
VERSIONS: Final = ("1.30.0", "1.33.0")
TEAMS: Final = """\
proxy:
  teams:
    payments:
      hatchet: {token: "${file:/run/secrets/stream-proxy/payments-hatchet}", tap: {stream: "on"}}
      auth: none
    support:
      hatchet: {token: "${file:/run/secrets/stream-proxy/support-hatchet}"}
      auth: none
teams:
  payments: {configMap: payments-streams, key: streams.yaml}
  support:
    streams: {chat: {rules: [{events: step_completed, data: {type: type}}]}}
    tests:
      - name: a step
        stream: chat
        given: {type: step_completed, step: a}
        expect: {data: {type: step_completed}}
secrets:
  - name: payments
    items: {hatchet-token: payments-hatchet}
  - name: support
    items: {token: support-hatchet}
"""


def helm(*arguments: str | Path, values: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm; `values` are given as a file on standard input."""
    more = ("-f", "-") if values else ()
    command = [need("helm"), *map(str, arguments), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=values or None)


@functools.cache
def rendered(values: str = "", chart: Path = CHART) -> tuple[dict[str, Any], ...]:
    """The objects that the chart makes of `values`, in the namespace `streams` and the release `x`."""
    done = helm("template", "x", chart, "--namespace", "streams", values=values)
    assert done.returncode == 0, done.stderr
    return tuple(one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one)


def named(
    objects: tuple[dict[str, Any], ...], kind: str, name: str = "x-stream-proxy"
) -> dict[str, Any] | None:
    """One of `objects`, or None."""
    return next((one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name), None)


def validate(one: dict[str, Any], version: str) -> None:
    """Hold an object against the schema of its kind; Kubernetes' own kinds in `version`."""
    crd = CRDS / f"{one['kind'].lower()}.json"
    if crd.is_file():
        jsonschema.validate(one, json.loads(crd.read_text()))
    else:
        kubernetes_validate.validate(one, version, strict=True)
