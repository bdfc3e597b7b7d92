"""Tests beside the rules that give a recorded run, or a client of `allow`; reports; rules without a test."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.load import load
from config.problems import Place
from proxy.cli.junit import junit
from proxy.cli.main import main
from proxy.rules.sample_event import GivenProblem
from proxy.rules.test_runner import TestResult, run_tests
from proxy.server.reloader import tried
from proxy.teams.recordings import MOST_BYTES, RecordingFiles
from tests.support.secrets import HATCHET_TOKEN
from tests.support.streams import team_of

RECORDING = Path(__file__).parents[2] / "recordings" / "postgres" / "fast_task.jsonl"
FILE = """version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
streams:
  chat:
    rules:
      - {name: tokens, events: step_stream, steps: fast, data: payload}
      - {name: results, events: step_completed, event: result, data: payload}
      - {name: ends, events: run_completed, data: type}
"""
TEST = """tests:
  - name: a fast task
    stream: chat
    given: {recording: runs/fast.jsonl}
    expect:
      - {event: stream.gap, data: {cause: joined_late, step: fast, attempt: 1, missed: null}}
      - {event: result, data: {fast: true}}
      - {data: run_completed}
      - {event: stream.end, data: {status: completed}}
"""
ALLOW = "claims.sub == run.metadata.user_id && request.params.page == '1'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    shutil.copy(RECORDING, tmp_path / "runs" / "fast.jsonl")
    (tmp_path / "streams.yaml").write_text(FILE + TEST)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_a_recorded_run_is_compared_with_all_that_the_stream_sends_of_it(folder: Path) -> None:
    result = run("test", folder / "streams.yaml")
    assert result.exit_code == 0, result.output
    assert "no test reaches the rule tokens" in result.output


def test_a_recording_is_found_beside_the_file_whatever_the_folder(folder: Path) -> None:
    config = tried(load(folder / "streams.yaml", {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN}))
    assert list(config.teams) == ["default"]
    (folder / "runs" / "fast.jsonl").unlink()
    [problem] = tried(load(folder / "streams.yaml", {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN})).broken[
        "default"
    ]
    assert "there is no recording runs/fast.jsonl" in problem.message


def test_a_recording_that_cannot_be_read_says_why(folder: Path) -> None:
    files = RecordingFiles(folder)
    (folder / "no.jsonl").write_text("{}\n")
    (folder / "bytes.jsonl").write_bytes(b"\xff\xfe")
    (folder / "outside.jsonl").symlink_to("/etc/hostname")
    with (folder / "large.jsonl").open("wb") as large:
        large.truncate(MOST_BYTES + 1)
    for file, message in {
        "missing.jsonl": "there is no recording",
        "runs": "there is no recording",
        "no.jsonl": "cannot be read",
        "bytes.jsonl": "not UTF-8",
        "large.jsonl": "larger than 16 MiB",
        "../streams.yaml": "beside the file",
        "outside.jsonl": "beside the file",
    }.items():
        with pytest.raises(GivenProblem, match=message):
            files(file)


def test_without_files_a_recording_is_a_problem_of_the_test() -> None:
    text = FILE.partition("streams:")[2] + TEST
    [result] = run_tests(team_of("streams:" + text))
    assert result.problem is not None
    assert "recordings cannot be read here" in result.problem


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("claims: {sub: u1}, run: {metadata: {user_id: u1}}, request: {params: {page: '1'}}", True),
        ("claims: {sub: u2}, run: {metadata: {user_id: u1}}, request: {params: {page: '1'}}", False),
        ("claims: {sub: u1}, run: {metadata: {user_id: u1}}", False),
        ("claims: {}", False),
        ("run: {metadata: {}}", False),
    ],
)
def test_which_clients_are_allowed(client: str, allowed: bool) -> None:
    for expected in (True, False):
        [result] = run_tests(
            team_of(f"""
streams:
  chat:
    allow: "{ALLOW}"
    rules: [{{events: step_completed}}]
tests:
  - {{name: t, stream: chat, {client}, allowed: {str(expected).lower()}}}
""")
        )
        assert result.passed is (expected is allowed)
        assert result.reached == frozenset()


def test_a_refusal_is_said_with_its_reason_and_no_value() -> None:
    [result] = run_tests(
        team_of(f"""
streams: {{chat: {{allow: "{ALLOW}", rules: [{{events: step_completed}}]}}}}
tests: [{{name: t, stream: chat, claims: {{sub: u7}}, allowed: true}}]
""")
    )
    assert result.diff == ["- allowed", "+ refused: a side of a comparison is missing or null"]


def test_a_report_has_a_case_for_each_test_and_no_character_that_xml_cannot_have(folder: Path) -> None:
    text = (folder / "streams.yaml").read_text().replace("fast: true", 'fast: "a\\x1b<&>"')
    (folder / "streams.yaml").write_text(text)
    report = folder / "report.xml"
    assert run("test", folder / "streams.yaml", "--junit", report).exit_code == 1
    root = ET.parse(report).getroot()
    [suite] = root.findall("testsuite")
    assert suite.attrib == {"name": "default", "tests": "1", "failures": "1", "errors": "0"}
    [case] = suite.findall("testcase")
    assert (case.attrib["classname"], case.attrib["name"]) == ("chat", "a fast task")
    assert "a\\u001b<&>" in str(case.findtext("failure"))
    strange = TestResult("\x00 name", "chat", True)
    assert ET.fromstring(junit({"team": [strange]}))[0][0].attrib["name"] == "\ufffd name"


def test_a_report_names_files_whose_tests_could_not_be_run(folder: Path) -> None:
    (folder / "streams.yaml").write_text(FILE.replace("step_stream", "step_straem"))
    report = folder / "report.xml"
    assert run("test", folder / "streams.yaml", "--junit", report).exit_code == 1
    errors = [error.attrib["message"] for error in ET.parse(report).getroot().iter("error")]
    assert any("step_straem" in message for message in errors)
    (folder / "streams.yaml").write_text(FILE + TEST)
    assert run("test", folder / "streams.yaml", "--junit", folder / "no" / "r.xml").exit_code == 2


def test_check_names_untested_rules_only_if_it_is_strict_and_there_are_tests(folder: Path) -> None:
    file = folder / "streams.yaml"
    assert "no test reaches" not in run("check", "--no-env", file).output
    strict = run("check", "--no-env", "--strict", "--format", "json", file)
    assert strict.exit_code == 1
    place: Place = (str(file), 6, 9)
    assert f'"file": "{place[0]}"' in strict.output
    assert f'"line": {place[1]}' in strict.output
    assert "no test reaches the rule `tokens` of stream `chat`" in strict.output
    file.write_text(FILE)
    assert run("check", "--no-env", "--strict", file).exit_code == 0
