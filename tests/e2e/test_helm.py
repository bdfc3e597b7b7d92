"""The Helm chart: each switch does what it says, objects fit their schemas, nonsense fails with words."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from config.load import load
from proxy import __version__
from proxy.rules.test_runner import run_tests
from tests.support.front import check_configuration, modern_nginx, nginx_folder
from tests.support.helm import CHART, TEAMS, VERSIONS, helm, named, rendered, validate
from tests.support.secrets import HATCHET_TOKEN
from tests.support.tools import ROOT, need

pytestmark = pytest.mark.chart

EVERYTHING: Final = (
    TEAMS
    + """\
replicas: 3
image:
  digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  pullSecrets: [registry]
env: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://collector:4318"}]
envFrom: [{configMapRef: {name: more}}]
ingress:
  enabled: true
  className: traefik
  hosts: [a.example.com]
  tls: [{hosts: [a.example.com], secretName: a}]
httpRoute: {enabled: true, parentRefs: [{name: gateway, sectionName: https}], hostnames: [a.example.com]}
autoscaling: {enabled: true}
networkPolicy: {enabled: true, ingressFrom: [{namespaceSelector: {matchLabels: {name: gateways}}}]}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, runbookUrl: "https://wiki.example.com/streams"}
dashboard: {enabled: true}
podLabels: {team: platform}
podAnnotations: {note: "1"}
nodeSelector: {pool: web}
tolerations: [{key: a, operator: Exists}]
priorityClassName: high
"""
)


def get(one: Any, path: str) -> Any:
    """What is at a dotted path."""
    for part in path.split("."):
        one = one[int(part) if part.isdecimal() else part]
    return one


def container(objects: tuple[dict[str, Any], ...]) -> Any:
    return get(named(objects, "StatefulSet"), "spec.template.spec.containers.0")


# -- what helm and the schemas say --


@pytest.mark.parametrize("values", ["", TEAMS, EVERYTHING], ids=["defaults", "teams", "everything"])
def test_helm_lint_finds_nothing(values: str) -> None:
    done = helm("lint", "--strict", CHART, values=values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", ["", EVERYTHING], ids=["defaults", "everything"])
def test_every_object_fits_the_schema_of_its_kind(values: str, version: str) -> None:
    for one in rendered(values):
        validate(one, version)


def test_without_standalone_there_is_no_object() -> None:
    assert rendered("standalone: false") == ()


# -- one test for each switch --

POD: Final = "spec.template.spec"
HPA: Final = "HorizontalPodAutoscaler"
OURS: Final = f"{POD}.containers.0"
SWITCHES: Final[list[tuple[str, str, str, Callable[[Any], bool]]]] = [
    ("replicas: 5", "StatefulSet", "spec.replicas", lambda n: n == 5),
    ("image: {tag: 9.9.9}", "StatefulSet", f"{OURS}.image", lambda image: image.endswith(":9.9.9")),
    (EVERYTHING, "StatefulSet", f"{OURS}.image", lambda i: "@sha256:aaa" in i),
    (EVERYTHING, "StatefulSet", f"{POD}.imagePullSecrets", lambda s: s == [{"name": "registry"}]),
    (EVERYTHING, "StatefulSet", f"{OURS}.env.0.name", lambda n: n.startswith("OTEL_")),
    (EVERYTHING, "StatefulSet", f"{OURS}.envFrom.0.configMapRef.name", lambda n: n == "more"),
    (EVERYTHING, "StatefulSet", "spec.template.metadata.labels.team", lambda team: team == "platform"),
    (EVERYTHING, "StatefulSet", "spec.template.metadata.annotations.note", lambda note: note == "1"),
    (EVERYTHING, "StatefulSet", f"{POD}.nodeSelector.pool", lambda pool: pool == "web"),
    (EVERYTHING, "StatefulSet", f"{POD}.tolerations.0.key", lambda key: key == "a"),
    (EVERYTHING, "StatefulSet", f"{POD}.priorityClassName", lambda name: name == "high"),
    ("service: {type: NodePort, port: 8443}", "Service", "spec.type", lambda kind: kind == "NodePort"),
    ("service: {type: NodePort, port: 8443}", "Service", "spec.ports.0.port", lambda port: port == 8443),
    (EVERYTHING, "Ingress", "spec.rules.0.host", lambda host: host == "a.example.com"),
    (EVERYTHING, "Ingress", "spec.ingressClassName", lambda name: name == "traefik"),
    (EVERYTHING, "HTTPRoute", "spec.rules.0.timeouts", lambda times: {*times.values()} == {"0s"}),
    (EVERYTHING, "HTTPRoute", "spec.parentRefs.0.sectionName", lambda name: name == "https"),
    (EVERYTHING, HPA, "spec.metrics.0.pods.metric.name", lambda name: name == "stream_proxy_clients"),
    (EVERYTHING, HPA, "spec.metrics.1.pods.metric.name", lambda n: "loop_lag" in n),
    (EVERYTHING, HPA, "spec.maxReplicas", lambda most: most == 6),
    (EVERYTHING, "NetworkPolicy", "spec.ingress.0.from.0.podSelector", lambda pods: "front" in str(pods)),
    ("replicas: 3\npdb: {maxUnavailable: 2}", "PodDisruptionBudget", "spec.maxUnavailable", lambda n: n == 2),
    (EVERYTHING, "ServiceMonitor", "metadata.labels.release", lambda release: release == "prometheus"),
    (EVERYTHING, "ServiceMonitor", "spec.endpoints.0.path", lambda path: path == "/metrics"),
    (EVERYTHING, "PrometheusRule", "spec.groups.0.rules.0.annotations", lambda a: "wiki.example" in str(a)),
    ('extraArgs: [--host, "::"]', "StatefulSet", f"{OURS}.args", lambda args: args[-2:] == ["--host", "::"]),
    ("preStopSeconds: 9", "StatefulSet", f"{OURS}.lifecycle.preStop.sleep.seconds", lambda s: s == 9),
    ("terminationGracePeriodSeconds: 99", "StatefulSet", POD, lambda pod: 99 in pod.values()),
]  # fmt: skip


@pytest.mark.parametrize(("values", "kind", "path", "is_right"), SWITCHES)
def test_a_switch_does_what_it_says(
    values: str, kind: str, path: str, is_right: Callable[[Any], bool]
) -> None:
    one = named(rendered(values), kind)
    assert one is not None, kind
    assert is_right(get(one, path)), get(one, path)


@pytest.mark.parametrize(
    ("kind", "off"),
    [
        ("Ingress", ""),
        ("HTTPRoute", ""),
        (HPA, ""),
        ("NetworkPolicy", ""),
        ("ServiceMonitor", ""),
        ("PrometheusRule", ""),
        ("PodDisruptionBudget", "pdb: {enabled: false}"),
        ("Deployment", "front: {enabled: false}"),
        ("Job", "preflight: {enabled: false}"),
    ],
)
def test_a_switch_that_is_off_adds_nothing(kind: str, off: str) -> None:
    assert not [one for one in rendered(off) if one["kind"] == kind]
    assert [one for one in rendered(EVERYTHING) if one["kind"] == kind]


def test_a_label_of_the_dashboard_finds_it_and_it_is_the_one_of_deploy() -> None:
    one = named(rendered(EVERYTHING), "ConfigMap", "x-stream-proxy-dashboard")
    assert one is not None
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    shipped = json.loads((ROOT / "deploy/grafana/stream-proxy.json").read_text())
    assert json.loads(one["data"]["stream-proxy.json"]) == shipped


def test_without_the_front_streams_go_to_the_replicas_themselves() -> None:
    objects = rendered("front: {enabled: false}\nnetworkPolicy: {enabled: true}")
    service, policy = named(objects, "Service"), named(objects, "NetworkPolicy")
    assert get(service, "spec.selector")["app.kubernetes.io/component"] == "replica"
    assert "from" not in get(policy, "spec.ingress.0"), "nobody is named, so everybody may read streams"


def test_an_autoscaled_set_has_no_number_of_replicas_and_nginx_knows_the_most() -> None:
    objects = rendered(EVERYTHING)
    assert "replicas" not in get(named(objects, "StatefulSet"), "spec")
    upstream = get(named(objects, "ConfigMap", "x-stream-proxy-front"), "data")["upstream.conf"]
    for number in range(6):
        assert (
            f"x-stream-proxy-{number}.x-stream-proxy-replicas.streams.svc.cluster.local:8080 resolve"
            in upstream
        )


# -- the parts fit together --


def test_selectors_find_pods_and_every_pod_is_hardened() -> None:
    objects = rendered(EVERYTHING)
    pods = [one["spec"]["template"] for one in objects if one["kind"] in ("StatefulSet", "Deployment", "Job")]
    labels = [pod["metadata"]["labels"] for pod in pods]
    for one in objects:
        selector = one.get("spec", {}).get("selector") or one.get("spec", {}).get("podSelector")
        if selector and one["kind"] != "ServiceMonitor":
            wanted = selector.get("matchLabels", selector)
            assert sum(wanted.items() <= each.items() for each in labels) == 1, one["metadata"]["name"]
    for pod in pods:
        assert pod["spec"]["enableServiceLinks"] is False
        assert pod["spec"]["automountServiceAccountToken"] is False
        for each in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]:
            assert each["securityContext"]["readOnlyRootFilesystem"]
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in each["resources"]["limits"]


def test_the_job_checks_and_tests_the_very_files_and_secrets_that_are_served() -> None:
    objects = rendered(TEAMS)
    job, served = named(objects, "Job", "x-stream-proxy-preflight"), named(objects, "StatefulSet")
    pod, own = get(job, "spec.template.spec"), get(served, "spec.template.spec")
    assert [pod["initContainers"][0]["args"][0], pod["containers"][0]["args"][0]] == ["check", "test"]
    assert get(job, "metadata.annotations")["helm.sh/hook"] == "pre-install,pre-upgrade"
    files = named(objects, "ConfigMap", "x-stream-proxy-preflight")
    assert get(files, "data") == get(named(objects, "ConfigMap"), "data")
    text = json.dumps(pod["volumes"]).replace("x-stream-proxy-preflight", "x-stream-proxy")
    assert json.loads(text) == own["volumes"]


def test_the_files_of_the_chart_pass_the_proxys_own_check_and_tests(tmp_path: Path) -> None:
    objects = rendered(TEAMS)
    data = get(named(objects, "ConfigMap"), "data")
    volumes = get(named(objects, "StatefulSet"), "spec.template.spec.volumes")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for source in volumes[1]["projected"]["sources"]:
        for item in source["secret"]["items"]:
            (secrets / item["path"]).write_text(HATCHET_TOKEN)
    (tmp_path / "teams").mkdir()
    (tmp_path / "proxy.yaml").write_text(
        data["proxy.yaml"].replace("/run/secrets/stream-proxy", str(secrets))
    )
    for source in volumes[0]["projected"]["sources"]:
        for item in source["configMap"]["items"]:
            if item["path"].startswith("teams/"):
                text = data["support.yaml"]  # the ConfigMap of the other team has the like
                (tmp_path / item["path"]).write_text(text)
    config = load(tmp_path, {})
    assert not config.broken
    assert {*config.teams} == {"payments", "support"}
    assert (config.server.host, config.server.port, config.server.admin_port) == ("0.0.0.0", 8080, 9090)
    trials = [trial for team in config.teams.values() for trial in run_tests(team)]
    assert trials
    assert all(trial.passed for trial in trials)


@pytest.mark.nginx
def test_nginx_accepts_its_files_which_are_those_of_deploy(tmp_path: Path) -> None:
    data = get(named(rendered(TEAMS), "ConfigMap", "x-stream-proxy-front"), "data")
    for name in ("nginx.conf", "http.conf", "location.conf"):
        assert data[name].strip() == (ROOT / "deploy/nginx" / name).read_text().strip()
    upstream = data["upstream.conf"].replace("kube-dns.kube-system.svc.cluster.local", "127.0.0.1")
    folder = nginx_folder(tmp_path, upstream=upstream)
    assert "test is successful" in check_configuration(modern_nginx(), folder)


def test_the_chart_has_the_projects_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert f'"appVersion" "{__version__}"' in (CHART / "templates/_sidecar.tpl").read_text()
    assert container(rendered())["image"] == f"hatchet-stream-proxy:{__version__}"


# -- the shared log --


def shared(log: str, more: str = "") -> str:
    return TEAMS.replace("proxy:\n", f"proxy:\n  server: {{log: '{log}'}}\n", 1) + more


@pytest.mark.parametrize(
    ("log", "ports"),
    [
        ("rediss://u:${file:/run/secrets/stream-proxy/payments-hatchet}@redis.data.svc:6380/0", [6380]),
        ("redis://redis/0", [6379]),
        ("redis://a:7000,b:7001,c:7001", [7000, 7001]),
        (
            "redis+sentinel://:${file:/run/secrets/stream-proxy/payments-hatchet}@a,b:5000/m/0",
            [6379, 26379, 5000],
        ),
        ("memory", None),
    ],
)
def test_network_policies_let_the_ports_of_the_shared_log_through(log: str, ports: list[int] | None) -> None:
    objects = rendered(shared(log, "networkPolicy: {enabled: true}\n"))
    egress = get(named(objects, "NetworkPolicy"), "spec.egress")
    found = [[port["port"] for port in rule["ports"]] for rule in egress[2:]]
    assert found == ([ports] if ports else [])
    config = yaml.safe_load(get(named(objects, "ConfigMap"), "data")["proxy.yaml"])
    assert config["server"]["log"] == log


# -- values that make no sense --


TEAM: Final = "teams: {a: {configMap: a}}"
STREAMS: Final = "streams: {b: {rules: [{events: step_completed}]}}"


def granted(more: str = "", token: str = "${T}") -> str:
    """Values that grant the team `a` something."""
    return f'proxy: {{teams: {{a: {{hatchet: {{token: "{token}"}}, auth: none, {more}}}}}}}\n'


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("replicas: 0", "at '/replicas': minimum: got 0, want 1"),
        ("replica: 2", "additional properties 'replica' not allowed"),
        ("image: {pullPolicy: Sometimes}", "at '/image/pullPolicy'"),
        ("image: {digest: abc}", 'image.digest is "abc": write sha256: and 64'),
        ("service: {port: 70000}", "at '/service/port'"),
        ("serviceMonitor: {interval: often}", 'serviceMonitor.interval is "often": write a duration'),
        ("serviceMonitor: {interval: 0s}", 'serviceMonitor.interval is "0s": write a duration'),
        ("prometheusRule: {runbookUrl: wiki}", 'prometheusRule.runbookUrl is "wiki": write a URL'),
        (granted("streams: {}") + TEAM, "at '/proxy/teams/a': additional properties 'streams'"),
        ("teams: {a: {configMap: a}}", "proxy.teams.a is missing"),
        (granted(), "teams.a is missing"),
        (granted() + "teams: {a: {}}", "neither configMap nor streams"),
        (granted() + f"teams: {{a: {{configMap: a, {STREAMS}}}}}", "both configMap and"),
        (granted() + f"teams: {{a: {{key: k, {STREAMS}}}}}", "teams.a.configMap too"),
        ("proxy: {server: {port: 80}}", "proxy.server.port is set by the chart"),
        (
            granted(token="${file:/run/secrets/stream-proxy/t}") + TEAM,
            "no item of secrets becomes it",
        ),
        ("secrets: [{name: a, items: {x: f, y: f}}]", "two keys become the file f"),
        ("secrets: [{name: a}]", "missing property 'items'"),
        ("autoscaling: {enabled: true, minReplicas: 9}", "minReplicas (9) is larger than"),
        ('autoscaling: {enabled: true, clients: 0, loopLag: ""}', "without them nothing is measured"),
        ("httpRoute: {enabled: true}", "name the Gateway"),
        ("ingress: {enabled: true}", "name at least one host"),
        ("terminationGracePeriodSeconds: 28", "must be more than 28"),
        ("proxy: {server: {drain: {grace: 2m}}}", "must be more than 128"),
        ("proxy: {server: {drain: {grace: 1h}}}", "must be more than 3608"),
        ("proxy: {server: {drain: {grace: 44500ms}}}", "must be more than 53"),
        ("replicas: 1\npdb: {maxUnavailable: 0}", "no node could ever be drained"),
        ("pdb: {maxUnavailable: 2}", "lets all 2 replicas stop at once"),
        ("pdb: {maxUnavailable: 100%}", 'pdb.maxUnavailable is "100%": write a number, or a'),
        ("proxy: {server: {hearbeat: 10s}}", "at '/proxy/server': additional properties 'hearbeat'"),
        (granted("limit: {}") + TEAM, "additional properties 'limit' not allowed"),
        (granted(token="secret") + TEAM, "a.hatchet.token would stand in a ConfigMap"),
        ("proxy: {server: {console: {token: abcdef}}}", "console.token would stand in a ConfigMap"),
        ('proxy: {server: {log: "redis://:abc@redis"}}', "password in proxy.server.log would stand in a"),
        ("proxy: {server: {log_encrypt: abcdef}}", "log_encrypt would stand in a ConfigMap"),
        ("proxy: {server: {log: 'redis://u:${file:/run/secrets/stream-proxy/r}@h'}}", "no item of secrets"),
        (granted() + "teams: {a: {streams: {b: {rules: [{event: x}]}}}}", "missing property 'events'"),
        ("resources: {memory: 1Gi}", "at '/resources': additional properties 'memory' not allowed"),
        ("resources: {limits: {memory: 100m}}", 'resources.limits.memory is "100m": write a size'),
        ("resources: {requests: {memory: 2Gi}}", "(2Gi) is larger than resources.limits.memory (768Mi)"),
        ("resources: {requests: {memory: 8Mi}, limits: {memory: 9Mi}}", "needs 57 MB when idle"),
        ("ingress: {hosts: ['https://a.b']}", 'ingress.hosts is "https://a.b": write a host name'),
        ("ingress: {enabled: true, hosts: [a.b], tls: [{secret: a}]}", "additional properties 'secret'"),
        ("ingress: {enabled: true, hosts: [a.b], tls: [{hosts: [c.d]}]}", "names the host c.d, but"),
        ("httpRoute: {parentRefs: [{name: g, section: a}]}", "additional properties 'section'"),
        ("image: {repository: 'a:1'}", 'image.repository is "a:1": write an image without its tag'),
        ("image: {tag: 1 beta}", 'image.tag is "1 beta": write a tag'),
        ("fullnameOverride: My_App", 'fullnameOverride is "My_App": write at most 50 lower case'),
        ("env: [{name: A, value: 5}]", "at '/env/0/value': got number, want string"),
        ("env: [{name: A B, value: a}]", 'env[].name is "A B": write the name of a variable'),
        ("env: [{name: A, value: a}, {name: A, value: b}]", "env: A is set twice"),
        ("env: [{name: STREAM_PROXY_PORT, value: '1'}]", "STREAM_PROXY_PORT is set by the chart"),
        ("envFrom: [{configMap: a}]", "at '/envFrom/0': additional properties 'configMap' not allowed"),
        ("extraArgs: [--port=9000]", 'extraArgs is "--port=9000": write --workers or --host'),
        ("tolerations: [{key: a, operator: Maybe}]", "at '/tolerations/0/operator': value must be one of"),
        ("affinity: {podAntiAfinity: {}}", "at '/affinity': additional properties 'podAntiAfinity'"),
        ("podLabels: {app.kubernetes.io/component: a}", "its Services select pods by it"),
        ("podLabels: {team: a b}", 'podLabels.team is "a b": write the value of a label'),
        ("podLabels: {a b: team}", 'a key of podLabels is "a b": write letters'),
        ("autoscaling: {enabled: true, loopLag: 50ms}", 'autoscaling.loopLag is "50ms": write seconds'),
        ("networkPolicy: {egressPorts: []}", "at '/networkPolicy/egressPorts': minItems: got 0, want 1"),
        ("networkPolicy: {ingressFrom: [{namespace: a}]}", "additional properties 'namespace' not allowed"),
        ("front: {resolver: 'https://dns'}", "write the name or address of the cluster's name server"),
        ("secrets: [{name: a, items: {k: ..}}]", 'secrets[].items.k is "..": write the name of a file'),
        ("teams: {A: {configMap: a}}", 'a team in teams is "A": write a name of lower case'),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_fails_in_helm_lint_with_words(values: str, words: str) -> None:
    done = helm("lint", CHART, values=values)
    assert done.returncode != 0, "it was accepted"
    output = (done.stdout + done.stderr).replace('\\"', '"')
    assert words in output, output


# -- the sidecar --


def test_another_chart_takes_the_sidecar_from_this_one(tmp_path: Path) -> None:
    charts = tmp_path / "shop/charts"
    shutil.copytree(CHART, charts / "stream-proxy")
    (tmp_path / "shop/templates").mkdir()
    (tmp_path / "shop/Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "shop/values.yaml").write_text("stream-proxy: {standalone: false}\n")
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  initContainers:
    {{- $own := dict "configMap" "shop-streams" "secret" "shop-hatchet" }}
    {{- include "stream-proxy.sidecar" $own | nindent 4 }}
  containers: [{name: shop, image: shop}]
  volumes:
    {{- include "stream-proxy.sidecarVolumes" (dict "configMap" "shop-streams") | nindent 4 }}
"""
    (tmp_path / "shop/templates/pod.yaml").write_text(pod)
    (one,) = rendered(chart=tmp_path / "shop")
    validate(one, VERSIONS[-1])
    check, test, serve = one["spec"]["initContainers"]
    assert [check["args"][0], test["args"][0], serve["args"][0]] == ["check", "test", "serve"]
    assert (serve["restartPolicy"], "restartPolicy" in check) == ("Always", False)
    assert serve["readinessProbe"]["httpGet"]["path"] == "/readyz"
    without = pod.replace('"secret" "shop-hatchet"', '"secret" "shop-hatchet" "preflight" false')
    (tmp_path / "shop/templates/pod.yaml").write_text(without)
    rendered.cache_clear()
    (one,) = rendered(chart=tmp_path / "shop")
    assert len(one["spec"]["initContainers"]) == 1


# -- kustomize --


def test_the_overlay_with_a_shared_log_builds_what_kubernetes_accepts() -> None:
    command = [need("kubectl"), "kustomize", str(ROOT / "deploy/kustomize/shared-log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = tuple(one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one)
    for one in objects:
        validate(one, VERSIONS[-1])
    secret = get(named(objects, "Secret", "stream-proxy"), "stringData")
    assert {"redis", "payments-hatchet"} <= {*secret}
    egress = get(named(objects, "NetworkPolicy", "stream-proxy"), "spec.egress")
    assert [{"port": 6379, "protocol": "TCP"}] in [rule["ports"] for rule in egress]


def test_the_overlay_of_kustomize_changes_what_it_says() -> None:
    command = [need("kubectl"), "kustomize", str(ROOT / "deploy/kustomize/production")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = tuple(one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one)
    for one in objects:
        validate(one, VERSIONS[-1])
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "streams"
    assert not [one for one in objects if one["kind"] == "Secret"], "placeholders are not deployed"
    proxy = get(named(objects, "StatefulSet", "stream-proxy"), "spec.template.spec.containers.0")
    assert proxy["image"] == f"registry.example.com/platform/hatchet-stream-proxy:{__version__}"
    assert proxy["resources"]["limits"]["memory"] == "1536Mi"
