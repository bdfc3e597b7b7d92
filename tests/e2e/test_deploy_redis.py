"""The files under deploy/ with a shared log: Redis is started as they start it, and the proxy can use it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from config.load import load
from config.model.shared_log import LogAddress
from proxy.log.base import LogAway
from proxy.log.redis.store import RedisLog
from proxy.observability.counters import LogCounters
from tests.e2e.test_deploy import COMPOSE, DEPLOY, VERSIONS, documents, objects
from tests.support.helm import validate
from tests.support.redis_server import RedisServer, redis_server
from tests.support.secrets import HATCHET_TOKEN
from tests.support.tools import ROOT, need

DOCS: Final = ROOT / "docs/shared-log.md"
OVERLAY: Final = DEPLOY / "kustomize/shared-log"
REDIS: Final = OVERLAY / "redis.yaml"
PASSWORD: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
LOG_LINE: Final = re.compile(r"^ *log: .*\n", re.MULTILINE)


def one(path: Path, kind: str) -> dict[str, Any]:
    return next(each for each in documents(path) if each["kind"] == kind)


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[int]:
    """redis-server with these arguments, on a port of its own."""
    server = RedisServer(folder)
    try:
        server.run([need("redis-server"), *arguments, "--port", str(server.port), "--bind", "127.0.0.1"])
        yield server.port
    finally:
        server.kill()


async def is_used_without_a_remark(address: LogAddress, name: str = "team:log:run") -> None:
    """The proxy's own check at its start, and one entry."""
    log = RedisLog(address, "a", counts=LogCounters())
    assert await log.inspect() == []
    await log.start()
    try:
        assert log.is_up, log.trouble
        assert await log.tail(name) is None
    finally:
        await log.close()


async def test_the_proxy_may_do_all_it_needs_in_the_redis_of_the_overlay(tmp_path: Path) -> None:
    container = one(REDIS, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    arguments = [part.replace("$(REDIS_PASSWORD)", PASSWORD) for part in container["args"]]
    with started(arguments, tmp_path) as port:
        address = LogAddress((("127.0.0.1", port),), user="stream-proxy", password=PASSWORD)
        await is_used_without_a_remark(address)
        command = [need("redis-cli"), "-p", str(port), "PING"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert "NOAUTH" in answer, "nobody gets in without the password"


async def test_the_proxy_uses_the_redis_of_compose_without_a_remark(tmp_path: Path) -> None:
    program, *arguments = documents(COMPOSE)[0]["services"]["redis"]["command"]
    assert program == "valkey-server"
    with started(arguments, tmp_path) as port:
        await is_used_without_a_remark(LogAddress((("127.0.0.1", port),)))


def test_the_user_of_the_overlay_has_the_documented_rights() -> None:
    arguments = one(REDIS, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["args"]
    documented = re.search(r"ACL SETUSER (stream-proxy on) >PASSWORD (.*)", DOCS.read_text())
    assert documented is not None
    start = arguments.index("stream-proxy")
    assert arguments[start : start + 2] == documented[1].split()
    assert arguments[start + 3 :] == documented[2].split()


def test_the_compose_services_of_the_shared_log_are_the_ones_that_the_streams_name() -> None:
    services = documents(COMPOSE)[0]["services"]
    config = load(COMPOSE.parent / "streams.yaml", {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN})
    assert config.server.log is not None
    ((host, port),) = config.server.log.hosts
    assert (host in services, port) == (True, 6379)
    assert "ports" not in services[host], "it holds payloads, so it is not published"


@pytest.mark.parametrize("version", [*VERSIONS, kubernetes_validate.latest_version()])
def test_kubernetes_own_schemas_accept_the_redis_of_the_overlay(version: str) -> None:
    for each in documents(REDIS):
        validate(each, version)


def test_the_overlay_adds_the_log_to_the_configuration_and_nothing_else(tmp_path: Path) -> None:
    text = one(OVERLAY / "proxy.yaml", "ConfigMap")["data"]["proxy.yaml"]
    assert LOG_LINE.sub("", text) == objects("ConfigMap")["stream-proxy"]["data"]["proxy.yaml"]
    secrets = tmp_path / "secrets"
    (tmp_path / "teams").mkdir()
    secrets.mkdir()
    keys = [
        *objects("Secret")["stream-proxy"]["stringData"],
        *one(OVERLAY / "secret.yaml", "Secret")["stringData"],
    ]
    for key in keys:
        (secrets / key).write_text(HATCHET_TOKEN if "hatchet" in key else PASSWORD)
    (tmp_path / "proxy.yaml").write_text(text.replace("/run/secrets/stream-proxy", str(secrets)))
    for name, team in objects("ConfigMap")["stream-proxy-teams"]["data"].items():
        (tmp_path / "teams" / name).write_text(team)
    config = load(tmp_path, {})
    assert not config.broken
    log = config.server.log
    assert log is not None
    service = one(REDIS, "Service")
    assert log.hosts == ((service["metadata"]["name"], service["spec"]["ports"][0]["port"]),)
    assert (log.user, log.password) == ("stream-proxy", PASSWORD)


def test_the_proxies_of_the_overlay_reach_redis_and_nobody_else_does() -> None:
    labels = one(REDIS, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert one(REDIS, "Service")["spec"]["selector"].items() <= labels.items()
    (patch,) = yaml.safe_load((OVERLAY / "network.yaml").read_text())
    assert patch["value"]["to"] == [{"podSelector": {"matchLabels": labels}}]
    policy = one(REDIS, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    (rule,) = policy["ingress"]
    proxies = objects("StatefulSet")["stream-proxy"]["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": proxies}}]


async def test_a_user_of_one_team_reaches_the_logs_of_that_team_alone(tmp_path: Path) -> None:
    documented = re.search(r"^ACL SETUSER payments on >PASSWORD (.*)$", DOCS.read_text(), re.MULTILINE)
    rights = re.search(r"^ACL SETUSER stream-proxy .* (-@all .*)$", DOCS.read_text(), re.MULTILINE)
    assert documented is not None
    assert rights is not None
    places = documented[1].removesuffix(" …").split()
    with redis_server(tmp_path) as server:
        server.call("ACL", "SETUSER", "payments", "on", f">{PASSWORD}", *places, *rights[1].split())
        address = LogAddress((("127.0.0.1", server.port),), user="payments", password=PASSWORD)
        await is_used_without_a_remark(address, "payments:log:run")
        with pytest.raises(LogAway, match="NOPERM"):
            await is_used_without_a_remark(address, "support:log:run")
