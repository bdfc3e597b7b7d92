"""Where a team's Hatchet is: what is written, the environment, the token; as hatchet-sdk has it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.hatchet.endpoint import Endpoint, endpoint
from proxy.hatchet.errors import HatchetAway, TokenRefused
from tests.support.hatchet_server import TENANT, config, token

CASES: dict[str, dict[str, str]] = {
    "nothing": {},
    "host_port": {"HATCHET_CLIENT_HOST_PORT": "engine:7070"},
    "server_url": {"HATCHET_CLIENT_SERVER_URL": "https://api.example.com"},
    "tenant": {"HATCHET_CLIENT_TENANT_ID": "9f0d6a2e-0000-4000-8000-000000000000"},
    "no tls": {"HATCHET_CLIENT_TLS_STRATEGY": "none"},
    "own ca": {
        "HATCHET_CLIENT_TLS_ROOT_CA_FILE": "/ca.pem",
        "HATCHET_CLIENT_TLS_SERVER_NAME": "engine.local",
    },
    "mtls": {
        "HATCHET_CLIENT_TLS_STRATEGY": "mtls",
        "HATCHET_CLIENT_TLS_ROOT_CA_FILE": "/ca.pem",
        "HATCHET_CLIENT_TLS_CERT_FILE": "/cert.pem",
        "HATCHET_CLIENT_TLS_KEY_FILE": "/key.pem",
        "HATCHET_CLIENT_HOST_PORT": "engine:7070",
    },
}

SDK = """
import json, os, sys
from hatchet_sdk.config import ClientConfig
settings = {}
for name, env in json.load(sys.stdin).items():
    os.environ.update(env)
    c = ClientConfig()
    t = c.tls_config
    settings[name] = [c.host_port, c.server_url, c.tenant_id, t.strategy, t.root_ca_file, t.cert_file,
                      t.key_file, t.server_name]
    for one in env:
        del os.environ[one]
print(json.dumps(settings))
"""


def resolved(env: dict[str, str], **written: Any) -> Endpoint:
    return endpoint(config(**{"tls": None, "api": "auto"} | written), env)


def test_all_of_it_is_read_as_the_sdk_reads_it(tmp_path: Path) -> None:
    """In a process of its own: ClientConfig reads its process's environment, and its import is heavy."""
    done = subprocess.run(
        [sys.executable, "-c", SDK],
        input=json.dumps(CASES),
        env={"HATCHET_CLIENT_TOKEN": token(), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    sdk = json.loads(done.stdout)
    assert set(sdk) == set(CASES)
    for name, env in CASES.items():
        ours = resolved(env)
        tls = ours.tls
        fields = [tls.strategy, tls.ca, tls.cert, tls.key, tls.server_name]
        assert [ours.host_port, ours.api, ours.tenant, *fields] == sdk[name], name


def test_what_is_written_wins_over_the_environment_and_the_token() -> None:
    env = {
        "HATCHET_CLIENT_HOST_PORT": "env:1",
        "HATCHET_CLIENT_SERVER_URL": "http://env",
        "HATCHET_CLIENT_TLS_STRATEGY": "tls",
        "HATCHET_CLIENT_TLS_ROOT_CA_FILE": "/env/ca.pem",
    }
    made = resolved(env, host_port="written:2", api="http://written/", tls="none", ca="/written/ca.pem")
    assert (made.host_port, made.api, made.tls.strategy, made.tls.ca) == (
        "written:2",
        "http://written",
        "none",
        "/written/ca.pem",
    )
    assert (made.tenant, made.max_message) == (TENANT, 32 * 1024 * 1024)


def test_an_api_that_is_off_stays_off() -> None:
    assert resolved({"HATCHET_CLIENT_SERVER_URL": "http://env"}, api="off").api is None


@pytest.mark.parametrize("bad", ["eyJ", "ey.ey.ey", "xx.eyJ9.zz", "eyJ.bnVsbA.c", "ey." + "!" * 9 + ".x"])
def test_a_token_that_is_no_jwt_is_refused_without_being_quoted(bad: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        resolved({}, token=bad)
    assert bad not in str(caught.value)


def test_no_address_anywhere_says_where_to_write_one() -> None:
    with pytest.raises(HatchetAway, match=r"hatchet\.host_port"):
        resolved({}, token=token(grpc_broadcast_address=""))


def test_the_token_is_in_no_text_of_it() -> None:
    assert token() not in repr(resolved({}))


def test_mtls_without_its_files_says_which_is_missing() -> None:
    with pytest.raises(HatchetAway, match=r"hatchet\.ca"):
        resolved({"HATCHET_CLIENT_TLS_STRATEGY": "mtls"})


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(HatchetAway, match="TLS_STRATEGY"):
        resolved({"HATCHET_CLIENT_TLS_STRATEGY": "ssl"})


@pytest.mark.parametrize(
    ("host_port", "name"), [("engine:7070", "engine"), ("[::1]:7070", "::1"), ("dns:///engine:443", "engine")]
)
def test_the_certificates_name_is_the_hosts(host_port: str, name: str) -> None:
    assert resolved({"HATCHET_CLIENT_HOST_PORT": host_port}).tls.server_name == name
