"""Paths to what is served: one file or a folder, and a broken team is that team's matter alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from config import load as config_load
from config.load import load, survey
from config.model.files import Config, HatchetConfig, RuleConfig, StreamConfig, TeamConfig
from config.problems import ConfigError
from tests.support.secrets import HATCHET_TOKEN, hatchet_token

ENV: Final = {"TOKEN": hatchet_token("s3cret-token"), "HATCHET_CLIENT_TOKEN": HATCHET_TOKEN}
RULES: Final = "    rules:\n      - events: step_completed\n"
TEAM: Final = f"version: 1\nstreams:\n  chat:\n{RULES}"
SINGLE: Final = 'hatchet: {token: "${TOKEN}"}\n' + TEAM
PROXY: Final = """\
version: 1
server: {port: 9000, linger: 1m}
teams:
  payments: {hatchet: {token: "${TOKEN}"}, auth: none, limits: {connections: 5}}
  search: {hatchet: {token: "${TOKEN}"}}
"""


def single(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "streams.yaml"
    file.write_text(text)
    return load(file, ENV)


def folder(tmp_path: Path, **teams: str) -> Path:
    (tmp_path / "teams").mkdir(exist_ok=True)
    (tmp_path / "proxy.yaml").write_text(teams.pop("proxy", PROXY))
    for name, text in teams.items():
        (tmp_path / "teams" / f"{name}.yaml").write_text(text)
    return tmp_path


# -- one file -----------------------------------------------------------------------------------


def test_the_simple_case_is_what_the_tutorial_serves() -> None:
    config = load(Path(__file__).resolve().parents[3] / "streams.example.yaml", ENV)
    stream = config.teams["default"].streams["chat"]
    assert stream.path == "/message/{workflowRunId}"
    assert stream.rules == (
        RuleConfig(
            name="rules[0]",
            events=("step_completed",),
            steps=("start", "load_docs", "reason_docs", "generate_response"),
            data={"type": "type", "payload": "payload", "messageId": "run_id"},
        ),
    )


def test_what_is_not_written_has_its_default(tmp_path: Path) -> None:
    config = single(tmp_path, SINGLE)
    team = config.teams["default"]
    stream = team.streams["chat"]
    assert config.single
    assert (config.server.host, config.server.port, config.server.admin_port) == ("127.0.0.1", 8080, None)
    assert (config.server.linger, config.server.check_after, config.server.write_timeout) == (30, 15, 30)
    assert (config.server.drain.grace, config.server.drain.spread) == (20, 10)
    assert (stream.heartbeat, stream.retry, stream.wait_for_run) == (15, 3, 10)
    assert (stream.backlog.events, stream.backlog.bytes, stream.backlog.keep_after_end) == (
        1000,
        1 << 20,
        300,
    )
    assert (stream.path, stream.metadata_key) == ("/streams/chat/{workflowRunId}", None)
    assert stream.rules[0].data == {"type": "type", "step": "step", "payload": "payload"}
    assert (team.auth, team.auth_written, team.limits.connections) == (None, False, None)
    assert (team.hatchet.api, team.hatchet.max_message, team.hatchet.tap) == ("auto", 32 << 20, None)


def test_an_auth_that_is_written_as_none_is_known_as_written(tmp_path: Path) -> None:
    team = single(tmp_path, SINGLE + "auth: none\n").teams["default"]
    assert (team.auth, team.auth_written) == (None, True)


def test_a_shape_is_laid_under_a_rules_own_data_in_the_order_of_the_yaml(tmp_path: Path) -> None:
    text = SINGLE + "        use: result\n        data: {step: type, more: run_id}\n"
    config = single(tmp_path, text + "shapes: {result: {id: run_id, step: step, out: payload}}\n")
    data = config.teams["default"].streams["chat"].rules[0].data
    assert isinstance(data, dict)
    assert list(data.items()) == [("id", "run_id"), ("step", "type"), ("out", "payload"), ("more", "run_id")]


def test_the_key_of_a_metadata_path_is_known(tmp_path: Path) -> None:
    text = SINGLE.replace("    rules:", "    path: /message/{metadata.message_id}\n    rules:")
    assert single(tmp_path, text).teams["default"].streams["chat"].metadata_key == "message_id"


def test_on_error_null_may_stand_without_quotes(tmp_path: Path) -> None:
    for written in ("null", '"null"'):
        config = single(tmp_path, SINGLE + f"        on_error: {written}\n")
        assert config.teams["default"].streams["chat"].rules[0].on_error == "null"


def test_numbers_and_booleans_may_come_out_of_variables(tmp_path: Path) -> None:
    text = (
        SINGLE
        + '    cors: {origins: "https://a.b", credentials: "${YES:-true}"}\nserver: {port: "${PORT:-81}"}\n'
    )
    config = single(tmp_path, text)
    assert config.server.port == 81
    cors = config.teams["default"].streams["chat"].cors
    assert cors is not None
    assert cors.credentials is True


def test_a_secret_is_redacted_wherever_it_is_printed(tmp_path: Path) -> None:
    config = single(tmp_path, SINGLE)
    assert config.teams["default"].hatchet.token.get_secret_value() == ENV["TOKEN"]
    for printed in (str(config), repr(config), config.teams["default"].model_dump_json()):
        assert "s3cret" not in printed
        assert "[redacted]" in printed


def test_a_file_with_problems_is_refused_with_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        single(tmp_path, SINGLE.replace("step_completed", "step_done") + "    heartbeat: 1\n")
    assert [problem.line for problem in caught.value.problems] == [6, 7]
    assert not caught.value.unreadable
    assert "streams.yaml:6:17: error:" in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.yaml", "folder-without-proxy-yaml", "with\0nul.yaml"])
def test_what_cannot_be_read_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder-without-proxy-yaml").mkdir()
    for look in (load, survey):
        with pytest.raises(ConfigError) as caught:
            look(tmp_path / name, ENV)
        assert caught.value.unreadable


def test_values_can_be_made_in_code_too() -> None:
    stream = StreamConfig(name="s", path="/s/{workflowRunId}", rules=(), heartbeat=0.05, wait_for_run=0)
    assert (stream.heartbeat, stream.wait_for_run) == (0.05, 0)
    team = TeamConfig(name="t", hatchet=HatchetConfig.model_validate({"token": "x"}), streams={"s": stream})
    assert team.streams["s"] == stream


# -- a folder -----------------------------------------------------------------------------------


def test_a_folder_has_a_platforms_file_and_one_for_each_team(tmp_path: Path) -> None:
    config = load(folder(tmp_path, payments=TEAM, search=TEAM), ENV)
    assert not config.single
    assert (config.server.port, config.server.linger) == (9000, 60)
    assert list(config.teams) == ["payments", "search"]
    assert config.teams["payments"].limits.connections == 5
    assert (config.teams["payments"].auth_written, config.teams["search"].auth_written) == (True, False)
    assert (config.broken, config.ignored, config.warnings) == ({}, (), ())


@pytest.mark.parametrize(
    "text", ["version: 1\n", "a: [", "", TEAM.replace("step_", "stop_"), TEAM + "hatchet: {token: x}\n"]
)
def test_a_broken_team_file_is_that_teams_matter_alone(tmp_path: Path, text: str) -> None:
    config = load(folder(tmp_path, payments=TEAM, search=text), ENV)
    assert list(config.teams) == ["payments"]
    assert list(config.broken) == ["search"]
    assert config.broken["search"]
    assert config.grants["search"].hatchet.token.get_secret_value() == ENV["TOKEN"]
    assert config.grants["search"].streams == {}


def test_a_team_file_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    path = folder(tmp_path, payments=TEAM)
    (path / "teams" / "search.yaml").mkdir()
    assert list(load(path, ENV).broken) == ["search"]


def test_a_team_that_is_not_granted_is_said_and_not_served(tmp_path: Path) -> None:
    config = load(folder(tmp_path, payments=TEAM, search=TEAM, strangers=TEAM), ENV)
    assert list(config.teams) == ["payments", "search"]
    assert [problem.code for problem in config.ignored] == ["team-not-granted"]


def test_a_granted_team_without_a_file_has_no_streams(tmp_path: Path) -> None:
    config = load(folder(tmp_path, payments=TEAM), ENV)
    assert config.teams["search"].streams == {}
    assert [(problem.code, problem.line, problem.column) for problem in config.warnings] == [
        ("team-without-file", 5, 3)
    ]


def test_a_team_with_two_files_is_broken_for_files_are_never_merged(tmp_path: Path) -> None:
    path = folder(tmp_path, payments=TEAM, search=TEAM)
    (path / "teams" / "search.yml").write_text(TEAM)
    config = load(path, ENV)
    assert list(config.teams) == ["payments"]
    assert {problem.code for problem in config.broken["search"]} == {"two-files"}


def test_a_broken_platforms_file_is_everybodys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(folder(tmp_path, proxy=PROXY.replace("linger: 1m", "linger: 1"), payments=TEAM), ENV)


def test_hidden_files_and_other_endings_are_no_teams(tmp_path: Path) -> None:
    path = folder(tmp_path, payments=TEAM, search=TEAM)
    (path / "teams" / ".payments.yaml.swp").write_text("x")
    (path / "teams" / ".hidden.yaml").write_text("x")
    (path / "teams" / "README.md").write_text("x")
    assert load(path, ENV).broken == {}


def test_a_configmap_is_read_through_its_symlinks(tmp_path: Path) -> None:
    version = tmp_path / "teams" / "..2026_01_01"
    version.mkdir(parents=True)
    (version / "payments.yaml").write_text(TEAM)
    (tmp_path / "teams" / "..data").symlink_to("..2026_01_01")
    (tmp_path / "teams" / "payments.yaml").symlink_to("..data/payments.yaml")
    assert list(load(folder(tmp_path, search=TEAM), ENV).teams["payments"].streams) == ["chat"]


# -- looking at a path, as check does ---------------------------------------------------------------


def test_a_folder_is_looked_at_whole(tmp_path: Path) -> None:
    found = survey(folder(tmp_path, payments="", strangers=TEAM), ENV)
    assert [(Path(each.source.file).name, [p.code for p in each.problems]) for each in found] == [
        ("proxy.yaml", ["team-without-file"]),
        ("payments.yaml", ["empty"]),
        ("strangers.yaml", ["team-not-granted"]),
    ]


def test_a_file_in_teams_is_a_teams_and_any_other_is_whole(tmp_path: Path) -> None:
    path = folder(tmp_path, payments=TEAM)
    (tmp_path / "other.yaml").write_text(TEAM)
    assert survey(path / "teams" / "payments.yaml", ENV)[0].problems == ()
    assert [p.code for p in survey(tmp_path / "other.yaml", ENV)[0].problems] == ["missing-key"]
    assert survey(path / "proxy.yaml", ENV)[0].problems == ()


def test_a_team_file_alone_needs_no_proxy_yaml(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "payments.yaml").write_text(TEAM)
    assert survey(tmp_path / "teams" / "payments.yaml", ENV)[0].problems == ()


def test_a_broken_proxy_yaml_keeps_no_team_from_checking_its_file(tmp_path: Path) -> None:
    path = folder(tmp_path, proxy="teams: [", payments=TEAM)
    assert survey(path / "teams" / "payments.yaml", {})[0].problems == ()


# -- what is no file, and what is not there -----------------------------------------------------


def test_a_pipe_among_the_teams_files_breaks_that_team_alone_and_nobody_waits(tmp_path: Path) -> None:
    config_folder = folder(tmp_path, search=TEAM)
    os.mkfifo(tmp_path / "teams" / "payments.yaml")
    config = load(config_folder, ENV)
    assert [*config.teams] == ["search"]
    assert "not a regular file" in config.broken["payments"][0].message


@pytest.mark.parametrize("form", ["single", "proxy"])
def test_a_pipe_in_the_place_of_the_whole_configuration_is_unreadable(tmp_path: Path, form: str) -> None:
    os.mkfifo(tmp_path / ("streams.yaml" if form == "single" else "proxy.yaml"))
    with pytest.raises(ConfigError, match="not a regular file") as raised:
        load(tmp_path / "streams.yaml" if form == "single" else tmp_path, ENV)
    assert raised.value.unreadable


def test_a_pipe_that_is_named_on_the_command_line_is_checked(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(SINGLE,), daemon=True)
    writer.start()
    (checked,) = survey(fifo, ENV)
    writer.join(10)
    assert checked.problems == ()


@pytest.mark.parametrize("ending", [".yml", ".YAML"])
def test_a_platforms_file_with_another_ending_is_named(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"proxy{ending}").write_text(PROXY)
    for read in (load, survey):
        with pytest.raises(ConfigError, match=rf"proxy\{ending} lies there: rename it to proxy.yaml"):
            read(tmp_path, ENV)


def test_an_exception_while_one_teams_file_is_checked_breaks_that_team_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_team = config_load.check_team

    def broken(path: Path, *args: Any) -> Any:
        if path.stem == "payments":
            raise RecursionError
        return check_team(path, *args)

    monkeypatch.setattr(config_load, "check_team", broken)
    config = load(folder(tmp_path, search=TEAM, payments=TEAM), ENV)
    assert [*config.teams] == ["search"]
    assert "RecursionError" in config.broken["payments"][0].message


# -- the address to listen on -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "host"),
    [("::1", "::1"), ("[::1]", "::1"), ("::", "::"), ("0.0.0.0", "0.0.0.0"), ("a.example-1", "a.example-1")],
)
def test_an_address_to_listen_on_may_stand_in_brackets(tmp_path: Path, written: str, host: str) -> None:
    config = single(tmp_path, f'server: {{host: "{written}"}}\n{SINGLE}')
    assert config.server.host == host


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("127.0.0.1:8080", "write `host: 127.0.0.1` and `port: 8080`"),
        ("[::1]:8080", 'write `host: "::1"` and `port: 8080`'),
        ("http://0.0.0.0:80/", "write `host: 0.0.0.0` and `port: 80`"),
        ("http://localhost", "without a scheme"),
        ("*", "0.0.0.0"),
        ("[example.com]", "without a scheme"),
        ("::1]", "without a scheme"),
    ],
)
def test_an_address_with_a_port_or_a_scheme_is_refused_with_what_to_write(
    tmp_path: Path, written: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        single(tmp_path, f'server: {{host: "{written}"}}\n{SINGLE}')
    assert [problem.code for problem in raised.value.problems] == ["address"]
    assert hint in raised.value.problems[0].hint


# -- the environment that stands in for keys ----------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("HATCHET_CLIENT_HOST_PORT", "http://hatchet:7077", "must be host:port"),
        ("HATCHET_CLIENT_HOST_PORT", "tcp://10.0.0.1:7077", "must be host:port"),
        ("HATCHET_CLIENT_HOST_PORT", "an-engine", "must be host:port"),
        ("HATCHET_CLIENT_SERVER_URL", "hatchet:8080", "must be a URL"),
        ("hatchet_client_server_url", "ftp://hatchet", "must be a URL"),
        ("HATCHET_CLIENT_TLS_STRATEGY", "off", "must be one of tls, mtls, none"),
    ],
)
@pytest.mark.parametrize("form", ["single", "proxy"])
def test_a_variable_that_stands_in_for_a_key_is_checked_like_the_key(
    tmp_path: Path, variable: str, value: str, message: str, form: str
) -> None:
    env = {**ENV, variable: value}
    path = tmp_path / "streams.yaml" if form == "single" else folder(tmp_path, search=TEAM)
    if form == "single":
        path.write_text(SINGLE)
    with pytest.raises(ConfigError, match=message) as raised:
        load(path, env)
    problem = raised.value.problems[0]
    assert variable.upper() in problem.message
    assert problem.hint
    assert value not in str(problem), "the value of a variable is never shown"


def test_a_key_that_is_written_wins_so_its_variable_is_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    keys = '"${TOKEN}", host_port: "h:1", api: off, tls: none'
    file.write_text(SINGLE.replace('"${TOKEN}"', keys))
    bad = dict.fromkeys(("HOST_PORT", "SERVER_URL", "TLS_STRATEGY"), "bad")
    load(file, {**ENV, **{f"HATCHET_CLIENT_{name}": value for name, value in bad.items()}})


@pytest.mark.parametrize("target", ["dns:///hatchet:7077", "unix:/run/hatchet.sock", "[::1]:7077", "h:7077"])
def test_a_grpc_target_in_the_environment_is_fine(tmp_path: Path, target: str) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(SINGLE)
    load(file, {**ENV, "HATCHET_CLIENT_HOST_PORT": target, "HATCHET_CLIENT_SERVER_URL": "https://h/api/v1"})
