"""`stream-proxy show`: the effective configuration, which read again means the same, and holds no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from config.load import load
from proxy.cli.main import main
from proxy.rules.ruleset import fingerprint
from tests.support.secrets import HATCHET_TOKEN

ENV = {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN, "HATCHET_CLIENT_HOST_PORT": "hatchet.internal:7077"}
FILE = """version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", api: "https://hatchet.example.com", tap: {stream: "on"}}
shapes: {shape: {"odd: key": payload, step: step}}
limits: {connections: 5, backlog_bytes: 3MiB}
streams:
  chat:
    heartbeat: 1500ms
    retry: 90s
    cors: {origins: ["https://app.example.com"]}
    rules:
      - {events: step_stream, steps: "a*", payload: json, merge: 50ms, use: shape, const: {x: "'a' `b` [c]: d"}}
      - {events: step_stream, steps: b, payload: json, on_error: skip, when: "payload != '# no'", data: payload}
      - {name: "yes", events: "*", event: "no", data: {yes: type, "012": step}, nulls: drop}
  ui: {format: ai-sdk, retry: hold, rules: [{events: step_stream, as: text, whole: payload.text}]}
"""  # noqa: E501


def show(path: Path, *options: str, env: dict[str, str] = ENV) -> Result:
    return CliRunner().invoke(main, ["show", str(path), *options], env=env)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "streams.yaml"
    path.write_text(FILE)
    return path


def test_what_is_shown_means_the_same_when_it_is_read(file: Path, tmp_path: Path) -> None:
    shown = show(file)
    assert shown.exit_code == 0, shown.output
    again = tmp_path / "again.yaml"
    again.write_text(shown.stdout.replace("[redacted]", "${HATCHET_CLIENT_TOKEN}", 1))
    one, other = (load(path, ENV).teams["default"].streams for path in (file, again))
    assert {name: fingerprint(stream) for name, stream in one.items()} == {
        name: fingerprint(stream) for name, stream in other.items()
    }
    assert show(again).stdout == shown.stdout


def test_every_default_is_shown_with_its_unit_and_where_hatchet_is(file: Path) -> None:
    made = yaml.safe_load(show(file).stdout)
    assert made["server"]["linger"] == "30s"
    assert made["limits"] == {"connections": 5, "backlog_bytes": "3MiB"}
    assert made["hatchet"]["host_port"] == "hatchet.internal:7077"
    chat = made["streams"]["chat"]
    assert (chat["path"], chat["heartbeat"], chat["retry"]) == (
        "/streams/chat/{workflowRunId}", "1500ms", "90s",
    )  # fmt: skip
    assert chat["rules"][0]["data"] == {
        "odd: key": "payload",
        "step": "step",
        "x": "`\"'a' \\u0060b\\u0060 [c]: d\"`",
    }
    assert "on_error" not in chat["rules"][0]
    assert chat["rules"][1]["on_error"] == "skip"
    assert made["streams"]["ui"]["retry"] == "hold"
    assert json.loads(show(file, "--format", "json").stdout) == made


def test_no_secret_is_shown(tmp_path: Path, file: Path) -> None:
    key = "k" * 40
    teams = tmp_path / "teams"
    teams.mkdir()
    (teams / "a.yaml").write_text("version: 1\nstreams: {chat: {rules: [{events: step_completed}]}}\n")
    (teams / "b.yaml").write_text("version: 1\nstreams: {chat: {rules: [{events: step_compelted}]}}\n")
    (tmp_path / "proxy.yaml").write_text(f"""version: 1
teams:
  a:
    hatchet: {{token: "{HATCHET_TOKEN}"}}
    auth: {{jwt: {{key: {key}, algorithms: [HS256], audience: x}}, from: [ticket], tickets: {{key: {key}}}}}
  b: {{hatchet: {{token: "{HATCHET_TOKEN}"}}, auth: none}}
""")
    for path in (file, tmp_path):
        shown = show(path)
        for secret in (key, HATCHET_TOKEN, HATCHET_TOKEN.rpartition(".")[2]):
            assert secret not in shown.output
    folder = show(tmp_path)
    assert folder.exit_code == 1, "team b is broken"
    assert list(yaml.safe_load(folder.stdout)["teams"]) == ["a"]
    assert "step_compelted" in folder.stderr


def test_problems_and_paths_that_cannot_be_read_have_their_statuses(file: Path, tmp_path: Path) -> None:
    file.write_text(FILE.replace("step_stream", "step_straem"))
    assert show(file).exit_code == 1
    assert show(tmp_path / "no.yaml").exit_code == 2
