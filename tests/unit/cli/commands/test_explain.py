"""`stream-proxy explain`: each rule in order, the frame byte for byte, recordings; gRPC is not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import main
from proxy.core.events import End, Event
from proxy.runs.replay import NotARecording, items_of_recording

RECORDINGS = Path(__file__).parents[3] / "recordings"
YAML = """
version: 1
hatchet: {token: "${NOBODY_SET_THIS:?a token}"}
streams:
  chat:
    rules:
      - name: tokens
        events: step_stream
        when: payload != ''
        event: token
        data: {text: payload, attempt: attempt}
      - name: results
        events: step_completed
        steps: [start]
        data: {type: type, payload: payload, messageId: run_id}
      - {name: sizes, events: step_completed, data: "length(payload.items)"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "streams.yaml"
    file.write_text(YAML)
    return file


def run(*words: object, given: str | None = None) -> tuple[int, bytes]:
    result = CliRunner().invoke(main, ["explain", *(str(word) for word in words)], input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output_bytes


def test_each_rule_is_shown_in_order_and_then_the_frame_byte_for_byte(path: Path) -> None:
    event = '{"type": "step_completed", "step": "start", "run_id": "r", "payload": {"a": "é\\n😀"}}'
    status, output = run(path, "--stream", "chat", "--event", event)
    assert status == 0
    assert (
        output
        == (
            "step_completed of step start\n"
            "  tokens: no match: it is for step_stream\n"
            "  results: matched\n"
            "  sizes: not evaluated: an earlier rule decided\n"
            'data: {"type":"step_completed","payload":{"a":"é\\n😀"},"messageId":"r"}\n'
            "\n"
        ).encode()
    )


def test_a_named_message_has_its_event_line(path: Path) -> None:
    status, output = run(path, "--event", '{"type": "step_stream", "payload": "Hi"}')
    assert status == 0
    assert output.endswith(b'event: token\ndata: {"text":"Hi","attempt":1}\n\n')


def test_the_first_reason_of_a_mismatch_is_shown(path: Path) -> None:
    _, output = run(path, "--event", '{"type": "step_stream", "payload": ""}')
    assert b"  tokens: no match: when is not true: payload != ''\n" in output
    assert output.endswith(b"  no rule matches: not forwarded\n\n")
    _, output = run(path, "--event", '{"type": "step_completed", "payload": {"items": 7}}')
    assert b"  results: no match: it is for steps start\n" in output
    assert (
        b"  sizes: decided: data: length() takes a string, an array or an object, but was given number\n"
        in output
    )
    assert output.endswith(b"  not forwarded\n\n")


def test_an_event_may_come_from_a_file_or_from_standard_input(path: Path, tmp_path: Path) -> None:
    event = '{"type": "step_stream", "payload": "x"}'
    (tmp_path / "event.json").write_text(event)
    expected = run(path, "--event", event)
    assert run(path, "--event", f"@{tmp_path / 'event.json'}") == expected
    assert run(path, "--event", "-", given=event) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--event", "{"], "explain: the event is not JSON"),
        (["--event", "[]"], "explain: the event must be a JSON object"),
        (["--event", '{"type": "step_strem"}'], "did you mean `step_stream`?"),
        (["--event", '{"type": "step_timed_out"}'], "it is a `step_failed`"),
        (["--event", '{"type": "step_*"}'], "an event has one type, and this is a glob"),
        (["--event", "{}", "--stream", "chta"], "explain: there is no stream chta (there are: chat)"),
        (["--event", "{}", "--team", "x"], "explain: there is no team x (there are: default)"),
        (["--event", "@/nowhere"], "explain: /nowhere cannot be read: No such file or directory"),
        (["--recording", "/nowhere"], "explain: /nowhere cannot be read: No such file or directory"),
        ([], "explain: give either --event or --recording"),
    ],
)
def test_unusable_arguments_are_status_2_with_one_sentence(
    path: Path, words: list[str], message: str
) -> None:
    status, output = run(path, *words)
    assert status == 2
    assert message in output.decode()


def test_problems_in_the_yaml_are_status_1_and_a_missing_file_is_2(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(YAML.replace("step_stream", "step_strm"))
    assert run(tmp_path / "s.yaml", "--event", "{}")[0] == 1
    assert run(tmp_path / "none.yaml", "--event", "{}")[0] == 2


def test_in_the_directory_form_the_team_is_named(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    for name in ("a", "b"):
        text = f"version: 1\nstreams: {{s: {{rules: [{{events: step_failed, data: \"'{name}'\"}}]}}}}\n"
        (tmp_path / "teams" / f"{name}.yaml").write_text(text)
    event = '{"type": "step_failed"}'
    status, output = run(tmp_path, "--event", event)
    assert status == 2 and b"name the team: --team NAME (there are: a, b)" in output
    status, output = run(tmp_path, "--team", "b", "--stream", "s", "--event", event)
    assert status == 0 and output.endswith(b'data: "b"\n\n')


# -- recordings


def test_every_recording_reaches_its_verified_end() -> None:
    files = sorted(RECORDINGS.glob("*/*.jsonl"))
    assert len(files) > 20
    for file in files:
        items = items_of_recording(file.read_text().splitlines())
        assert isinstance(items[-1], End), file
        events = [item for item in items if isinstance(item, Event)]
        assert events[-1].type == f"run_{items[-1].status}", file
        lasting = [event.identity for event in events if event.lasting]
        assert len(set(lasting)) == len(lasting), file


def test_a_recorded_run_is_explained_event_by_event(path: Path) -> None:
    status, output = run(path, "--recording", RECORDINGS / "postgres" / "dag_with_a_retry.jsonl")
    assert status == 0
    text = output.decode()
    assert text.count("step_stream of step two\n") == 6
    assert 'event: stream.reset\ndata: {"step":"two","attempt":2}\n\n' in text
    assert text.endswith('the verified end: completed\nevent: stream.end\ndata: {"status":"completed"}\n\n')


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1 is not JSON"),
        (["[]"], "line 1 has no source"),
        (["", '{"source": "act", "t": 0}'], "no line has the source `trigger`, which names the run"),
        (['{"source": "trigger", "t": 0, "workflow_run_id": "r"}', '{"source": "live", "t": 1}'],
         "line 2 lacks a field that its source needs, or the field has another type"),
    ],
)  # fmt: skip
def test_a_malformed_recording_is_reported_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(NotARecording, match=message):
        items_of_recording(lines)


# -- whole


def whole_at(path: Path, expression: str) -> None:
    rule = "when: payload != ''"
    assert rule in YAML
    path.write_text(YAML.replace(rule, f'steps: two\n        whole: "{expression}"'))


def test_whole_is_explained_at_the_step_that_completes(path: Path) -> None:
    whole_at(path, "payload.text")
    event = '{"type": "step_completed", "step": "two", "payload": {"text": "Hello"}}'
    _, output = run(path, "--stream", "chat", "--event", event)
    assert b"  whole of tokens: the chunks add up to 5 characters\n" in output
    _, output = run(path, "--stream", "chat", "--event", event.replace('"Hello"', "7"))
    assert b"  whole of tokens: gives no text\n" in output


def test_a_recorded_run_shows_what_repairs_a_text(path: Path) -> None:
    whole_at(path, "'another text'")
    status, output = run(path, "--recording", RECORDINGS / "postgres" / "dag_with_a_retry.jsonl")
    assert status == 0
    assert (
        "a reset of step two: its whole text follows\n"
        'event: stream.reset\ndata: {"step":"two","attempt":2,"whole":true}\n\n'
        "the missing text of step two, by rule tokens\n"
        'event: token\ndata: {"text":"another text","attempt":2}\n\n'
        "step_completed of step two\n"
    ) in output.decode()


# -- imports


def test_a_recorded_run_shows_which_chunks_are_merged(path: Path) -> None:
    data = "{n: index, first: first_index, text: payload}"
    rule = f"{{name: tokens, events: step_stream, merge: 10s, data: {data}}}"
    path.write_text(YAML.partition("    rules:")[0] + f"    rules: [{rule}]\n")
    status, raw = run(path, "--recording", RECORDINGS / "postgres" / "dag_with_tokens.jsonl")
    assert status == 0
    output = raw.decode()
    assert output.count("step_stream of step") == 1
    heading = "step_stream of step generate_response, chunks 0 to 7\n"
    assert heading + "  tokens: matched, merged into one frame\n" in output
    assert 'data: {"n":7,"first":0,"text":"thequickbrownfoxjumpsover123true"}' in output


def test_explain_does_not_load_grpc_nor_the_server() -> None:
    program = (
        "import sys, proxy.cli.commands.explain, proxy.cli.commands.test; import json; "
        "print(json.dumps([n for n in ('grpc', 'hatchet_sdk', 'aiohttp', 'starlette', 'uvicorn', 'rich') "
        "if n in sys.modules]))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == []
