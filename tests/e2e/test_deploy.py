"""The files under deploy/, each checked by a tool for its kind; without network and cluster."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from config.load import load
from config.problems import ConfigError
from proxy.rules.test_runner import run_tests
from tests.support.front import check_configuration, modern_nginx, nginx_folder
from tests.support.helm import validate
from tests.support.secrets import HATCHET_TOKEN
from tests.support.tools import ROOT, need

DEPLOY: Final = ROOT / "deploy"
KUSTOMIZATION: Final = "kustomization.yaml"  # no manifest: tests/e2e/test_helm.py builds with it
KUBERNETES: Final = sorted(
    path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != KUSTOMIZATION
)
COMPOSE: Final = DEPLOY / "compose/compose.yaml"
VERSIONS: Final = ("1.30.0", "1.33.0")  # sleep in preStop came with 1.30; the newest is checked too
CLOSE_SECONDS: Final = 2  # seconds that a stopping proxy gives its connections to Hatchet, after drain.grace
TOOLS: Final = Path(sys.executable).parent


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def documents(*paths: Path) -> list[dict[str, Any]]:
    return [one for path in paths for one in yaml.safe_load_all(path.read_text()) if one]


def objects(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents(*KUBERNETES) if one["kind"] == kind}


def workloads() -> dict[str, dict[str, Any]]:
    return {**objects("Deployment"), **{f"{name} (set)": one for name, one in objects("StatefulSet").items()}}


def proxies() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every container of ours, and the pod that it is in."""
    pods = [one["spec"]["template"]["spec"] for one in workloads().values()]
    found = [
        (container, pod)
        for pod in pods
        for container in [*pod["containers"], *pod.get("initContainers", [])]
        if container["name"] == "stream-proxy"
    ]
    assert len(found) >= 2, "the sidecar, and the proxy of several teams"
    return found


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


# -- Kubernetes --


@pytest.mark.parametrize("version", [*VERSIONS, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_own_schemas_accept_the_manifests(path: Path, version: str) -> None:
    for one in documents(path):
        validate(one, version)


def test_every_proxy_in_a_pod_has_probes_resources_and_time_to_drain() -> None:
    assert len(proxies()) == 2
    for container, _ in proxies():
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert {"cpu", "memory"} <= {*container["resources"]["requests"]}
        assert "memory" in container["resources"]["limits"]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] > 0


def measured(pattern: str) -> float:
    """A figure of docs/performance.md."""
    found = re.search(pattern, (ROOT / "docs/performance.md").read_text())
    assert found is not None, pattern
    return float(found[1])


def megabytes(text: str) -> float:
    return int(text.removesuffix("Mi").removesuffix("MiB")) * 2**20 / 1e6


def at_its_limits(limits: dict[str, Any]) -> float:
    """MB that a team at its limits takes."""
    client, run = measured(r"linear: (\d+) KB per client"), measured(r"(\d+) KB per run with its client")
    kept = megabytes(limits["backlog_bytes"])
    return (int(limits["connections"]) * client + int(limits["runs"]) * run) / 1000 + kept


def test_the_memory_limits_hold_what_the_configured_limits_allow() -> None:
    sidecar = yaml.safe_load(objects("ConfigMap")["shop-streams"]["data"]["streams.yaml"])["limits"]
    alone = yaml.safe_load(objects("ConfigMap")["stream-proxy"]["data"]["proxy.yaml"])["teams"]["payments"]
    idle, each = measured(r"(\d+) MB idle with one team"), measured(r"some (\d+) MB each\)")
    needed = {"shop-streams": idle + each + at_its_limits(sidecar)}
    needed["stream-proxy-teams"] = (
        idle + 2 * each + 2 * at_its_limits(alone["limits"])
    )  # two teams like this one
    limits = {
        name: megabytes(
            next(one for one, pod in proxies() if name in str(pod))["resources"]["limits"]["memory"]
        )
        for name in needed
    }
    for name, most in needed.items():
        assert 1.2 * most < limits[name], f"{name}: {most:.0f} MB at its limits"


def test_every_container_of_ours_has_minimal_privileges() -> None:
    for container, pod in proxies():
        has = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert has["runAsNonRoot"]
        assert has["readOnlyRootFilesystem"]
        assert not has["allowPrivilegeEscalation"]
        assert has["capabilities"] == {"drop": ["ALL"]}
        assert has["seccompProfile"] == {"type": "RuntimeDefault"}


def test_kubernetes_waits_longer_than_a_drain_takes() -> None:
    for container, pod in proxies():
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = seconds(settings().get("grace", "20s"))
        assert pod["terminationGracePeriodSeconds"] > before + grace + CLOSE_SECONDS


def settings() -> dict[str, str]:
    drain: dict[str, str] = yaml.safe_load(objects("ConfigMap")["stream-proxy"]["data"]["proxy.yaml"])[
        "server"
    ]["drain"]
    return drain


def test_no_pod_gets_the_addresses_of_services_in_its_environment() -> None:
    for name, one in workloads().items():
        assert one["spec"]["template"]["spec"]["enableServiceLinks"] is False, name


def test_selectors_services_and_budgets_find_their_pods() -> None:
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in workloads().values()]
    selectors = [one["spec"]["selector"] for one in objects("Service").values()]
    for kind in ("PodDisruptionBudget", "Deployment", "StatefulSet"):
        selectors += [one["spec"]["selector"]["matchLabels"] for one in objects(kind).values()]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in objects("NetworkPolicy").values()]
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in pods), selector


def test_every_config_map_and_secret_that_is_mounted_is_there() -> None:
    text = [json.dumps(one) for one in workloads().values()]
    mounted = {name for one in text for name in re.findall(r'"configMap": {"name": "([\w-]+)"', one)}
    secrets = {name for one in text for name in re.findall(r'"secretName": "([\w-]+)"', one)}
    assert mounted == {*objects("ConfigMap")}
    assert secrets <= {*objects("Secret")}


def test_the_sidecars_streams_pass_check(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(objects("ConfigMap")["shop-streams"]["data"]["streams.yaml"])
    config = load(path, {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN})
    assert (config.server.host, config.server.admin_port) == ("0.0.0.0", 9090)
    assert not config.warnings


def test_the_standalone_configuration_passes_check_and_its_tests(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    (tmp_path / "teams").mkdir()
    secrets.mkdir()
    for name, value in objects("Secret")["stream-proxy"]["stringData"].items():
        (secrets / name).write_text(value)
    text = objects("ConfigMap")["stream-proxy"]["data"]["proxy.yaml"]
    (tmp_path / "proxy.yaml").write_text(text.replace("/run/secrets/stream-proxy", str(secrets)))
    with pytest.raises(ConfigError, match="placeholder"):
        load(tmp_path, {})
    for name in objects("Secret")["stream-proxy"]["stringData"]:
        (secrets / name).write_text(HATCHET_TOKEN if "hatchet" in name else "k" * 48)
    for name, team in objects("ConfigMap")["stream-proxy-teams"]["data"].items():
        (tmp_path / "teams" / name).write_text(team)
    config = load(tmp_path, {})
    assert not config.broken
    trials = [trial for team in config.teams.values() for trial in run_tests(team)]
    assert trials
    assert all(trial.passed for trial in trials)


def test_nginx_in_kubernetes_is_the_nginx_of_this_folder() -> None:
    loaded = objects("ConfigMap")["stream-proxy-front"]["data"]
    for name in ("nginx.conf", "http.conf", "location.conf"):
        assert loaded[name] == (DEPLOY / "nginx" / name).read_text(), (
            f"front.yaml: {name} differs from deploy/nginx"
        )


def test_nginx_knows_every_replica_by_its_name() -> None:
    (replicas,) = objects("StatefulSet").values()
    name, names = replicas["metadata"]["name"], replicas["spec"]["serviceName"]
    loaded = re.findall(r"^ +server (\S+):8080 resolve", upstream("kubernetes"), re.MULTILINE)
    wanted = [
        f"{name}-{number}.{names}.streams.svc.cluster.local" for number in range(replicas["spec"]["replicas"])
    ]
    assert loaded == wanted
    assert objects("Service")[names]["spec"]["clusterIP"] == "None"


# -- nginx --

NAME_SERVER: Final = "kube-dns.kube-system.svc.cluster.local"  # a name that only a cluster knows


def upstream(place: str) -> str:
    """The upstream block of nginx in that file."""
    if place == "kubernetes":
        loaded: str = objects("ConfigMap")["stream-proxy-front"]["data"]["upstream.conf"]
        return loaded.replace(NAME_SERVER, "127.0.0.1")
    return (DEPLOY / place / "upstream.conf").read_text()


@pytest.mark.nginx
@pytest.mark.parametrize("place", ["nginx", "compose", "kubernetes"])
def test_a_current_nginx_accepts_the_configuration(place: str, tmp_path: Path) -> None:
    folder = nginx_folder(tmp_path, upstream=upstream(place))
    assert "test is successful" in check_configuration(modern_nginx(), folder)


@pytest.mark.nginx
def test_the_nginx_of_old_distributions_accepts_the_snippet(tmp_path: Path) -> None:
    folder = nginx_folder(tmp_path, upstream=upstream("nginx"))
    assert "test is successful" in check_configuration(need("nginx"), folder)


# -- compose --


def test_the_compose_schema_accepts_the_compose_file() -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_every_file_that_compose_mounts_or_builds_from_is_there() -> None:
    (loaded,) = documents(COMPOSE)
    for name, service in loaded["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in loaded["volumes"] or (COMPOSE.parent / source).is_file(), f"{name}: {source}"
        if "build" in service:
            assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_compose_publishes_on_loopback_alone_and_waits_for_a_drain() -> None:
    (loaded,) = documents(COMPOSE)
    for service in loaded["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert seconds(loaded["services"]["proxy-1"]["stop_grace_period"]) > 20 + CLOSE_SECONDS


def test_the_streams_of_compose_pass_check() -> None:
    config = load(COMPOSE.parent / "streams.yaml", {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN})
    assert not config.warnings


# -- the image --


def test_a_linter_for_containerfiles_finds_nothing() -> None:
    assert run(TOOLS / "hadolint", ROOT / "Containerfile") == ""


def test_the_image_takes_what_the_wheel_is_built_from() -> None:
    ignore = (ROOT / ".containerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert f"!{name}" in ignore, name
        assert (ROOT / name).exists(), name


def test_image_tags_say_our_version() -> None:
    from proxy import __version__  # noqa: PLC0415

    texts = [path.read_text() for path in [*KUBERNETES, COMPOSE, ROOT / "Containerfile"]]
    found = {tag for text in texts for tag in re.findall(r"hatchet-stream-proxy:([\w.]+)", text)}
    assert found == {__version__}
    assert f"ARG VERSION={__version__}" in texts[-1]


# -- what is locked --


def test_the_lock_has_hashes_for_everything_and_addresses_of_nothing() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    locked = {re.split(r"[=\[; ]", block, maxsplit=1)[0] for block in blocks}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert wanted is not None
    names = re.findall(r'^\s*"([\w-]+)', wanted[1], re.MULTILINE)
    assert len(names) > 10
    assert {*names} <= locked, "scripts/lock writes it again"


def test_every_dependency_says_why_it_is_there() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert wanted is not None
    for line in wanted[1].strip().splitlines():
        assert ">=" in line or "==" in line, line
        assert "#" in line, line
