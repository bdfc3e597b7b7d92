"""`stream-proxy test`: tests beside the rules, their verdicts, and what the command says of them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner

from config.load import load
from proxy.cli.main import main
from proxy.rules.sample_event import AT, RUN_ID, STEP, STEP_RUN_ID, GivenProblem, event_of
from proxy.rules.test_runner import failures, run_tests, same, unreached
from proxy.server.reloader import tried
from tests.support.secrets import HATCHET_TOKEN
from tests.support.streams import team_of

STREAMS = """
streams:
  checkout:
    rules:
      - {name: tokens, events: step_stream, steps: "generate_*", when: payload != '', event: token, data: {text: payload}}
      - name: paid
        events: step_completed
        steps: charge
        event: paid
        data: {order: payload.order_id, last4: payload.card.last4}
      - {name: ends, events: "run_*", data: {type: type}}
"""  # noqa: E501
CARD = '{type: step_completed, step: charge, payload: {order_id: 7, card: {number: "4242", last4: "42"}}}'


def result_of(given: str, expect: str) -> Any:
    test = f"\ntests:\n  - {{name: t, stream: checkout, given: {given}, expect: {expect}}}\n"
    [result] = run_tests(team_of(STREAMS + test))
    return result


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (CARD, '{event: paid, data: {order: 7, last4: "42"}}'),
        (CARD, '{event: paid, data: {last4: "42", order: 7.0}}'),
        ('{type: step_stream, step: generate_answer, payload: ""}', "nothing"),
        ("{type: step_stream, step: generate_answer, payload: Hi}", "{event: token, data: {text: Hi}}"),
        ("{type: step_completed, step: other}", "nothing"),
        ("{type: run_failed}", "{data: {type: run_failed}}"),
    ],
)
def test_a_test_passes_where_the_message_is_the_expected_one(given: str, expect: str) -> None:
    assert result_of(given, expect).passed


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (CARD, '{data: {order: 7, last4: "42"}}'),  # the event's name is part of the message
        (CARD, '{event: paid, data: {order: "7", last4: "42"}}'),
        (CARD, '{event: paid, data: {order: 7, last4: "42", more: null}}'),
        (CARD, "nothing"),
        ("{type: run_failed}", "{data: {type: true}}"),
        ("{type: step_failed}", "{data: {}}"),
    ],
)
def test_a_test_fails_where_it_is_another(given: str, expect: str) -> None:
    assert not result_of(given, expect).passed


def test_a_result_knows_which_rule_decided_and_why_the_earlier_ones_did_not() -> None:
    result = result_of(CARD, "nothing")
    assert result.decided == "paid"
    assert [(v.rule, v.matched, v.reasons) for v in result.verdicts[:2]] == [
        ("tokens", False, ("it is for step_stream",)),
        ("paid", True, ()),
    ]


def test_values_are_compared_as_json_does() -> None:
    assert same({"a": [1, None]}, {"a": [1.0, None]})
    assert not same(1, True)
    assert not same([0], [False])
    assert not same("1", 1)
    assert not same({"a": None}, {})


def test_failures_are_problems_without_a_payload() -> None:
    team = team_of(STREAMS + f"\ntests:\n  - {{name: t, stream: checkout, given: {CARD}, expect: nothing}}\n")
    [problem] = failures(team)
    assert problem.severity == "error"
    assert problem.message == "the test `t` of stream `checkout` expected nothing and got a message"
    assert "42" not in str(problem)


def test_a_failing_test_is_reported_with_its_place_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    granted = f"version: 1\nteams: {{shop: {{hatchet: {{token: {HATCHET_TOKEN}}}, auth: none}}}}\n"
    (tmp_path / "proxy.yaml").write_text(granted)
    file = tmp_path / "teams" / "shop.yaml"
    streams = "version: 1\n" + STREAMS[STREAMS.index("streams:") :].rstrip() + "\n"
    good = "  - {name: good, stream: checkout, given: {type: step_started}, expect: nothing}\n"
    bad = f"  - name: bad\n    stream: checkout\n    given: {CARD}\n    expect: nothing\n"
    file.write_text(streams + "tests:\n" + good + bad)
    config = tried(load(tmp_path, {}))
    [problem] = config.broken["shop"]
    line = streams.count("\n") + 3
    assert str(problem).startswith(f"{file}:{line}:5: error: the test `bad` of stream `checkout`")


def test_rules_that_decide_no_test_are_named() -> None:
    team = team_of(STREAMS + f"\ntests:\n  - {{name: t, stream: checkout, given: {CARD}, expect: nothing}}\n")
    assert unreached(team, run_tests(team)) == [("checkout", "tokens"), ("checkout", "ends")]


# -- several events

TEXTS = """
streams:
  chat:
    rules:
      - {name: tokens, events: step_stream, steps: answer, event: token, whole: payload.text, data: payload}
      - {name: results, events: step_completed, event: result, data: type}
"""


def sequence(*given: str, expect: str) -> Any:
    lines = "".join(f"      - {event}\n" for event in given)
    test = f"\ntests:\n  - name: t\n    stream: chat\n    expect: {expect}\n    given:\n{lines}"
    [result] = run_tests(team_of(TEXTS + test))
    return result


CHUNK = "{type: step_stream, step: answer, payload: Hel}"
COMPLETED = "{type: step_completed, step: answer, payload: {text: Hello}}"


def test_events_one_after_the_other_make_messages_one_after_the_other() -> None:
    expect = "[{event: token, data: Hel}, {event: token, data: lo}, {event: result, data: step_completed}]"
    assert sequence(CHUNK, COMPLETED, expect=expect).passed
    assert not sequence(COMPLETED, CHUNK, expect=expect).passed
    assert not sequence(CHUNK, COMPLETED, expect="{event: token, data: Hel}").passed


def test_a_sequence_shows_a_reset_where_the_text_is_sent_again() -> None:
    late = "{type: step_stream, step: answer, index: 1, payload: lo}"
    result = sequence(late, COMPLETED, expect="nothing")
    assert [line for line in result.got.splitlines() if line.startswith("event:")] == [
        "event: token",
        "event: stream.reset",
        "event: token",
        "event: result",
    ]


def test_every_rule_that_decides_an_event_of_a_sequence_is_reached() -> None:
    result = sequence(CHUNK, COMPLETED, expect="nothing")
    assert result.reached == {"tokens", "results"}


def test_a_single_event_is_what_a_rule_makes_of_it() -> None:
    assert sequence(COMPLETED, expect="{event: result, data: step_completed}").passed


# -- the event that is given


def test_only_the_fields_that_matter_need_be_given() -> None:
    event = event_of({"type": "step_completed"})
    assert (event.run_id, event.step, event.step_run_id, event.attempt) == (RUN_ID, STEP, STEP_RUN_ID, 1)
    assert (event.index, event.at, event.metadata, event.recovered, event.payload) == (
        None,
        AT,
        {},
        False,
        None,
    )
    chunk = event_of({"type": "step_stream"})
    assert (chunk.index, chunk.payload) == (0, "")
    end = event_of({"type": "run_completed"})
    assert (end.step, end.step_run_id, end.attempt, end.index) == (None, None, None, None)


def test_a_chunk_may_be_given_as_text_or_as_what_its_json_says() -> None:
    assert event_of({"type": "step_stream", "payload": "Hi"}).payload == "Hi"
    assert event_of({"type": "step_stream", "payload": {"a": [1]}}).payload == '{"a":[1]}'


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({}, "the event has no type", "write type: and one of step_started"),
        ({"type": "step_complete"}, "there is no event `step_complete`", "did you mean `step_completed`?"),
        ({"type": "step_failed", "stpe": "x"}, "an event has no field `stpe`", "did you mean step?"),
        ({"type": "step_failed", "attempt": "1"},
         "the event's attempt must be a whole number", "write attempt: 1"),
        ({"type": "step_failed", "attempt": True},
         "the event's attempt must be a whole number", "write attempt: 1"),
        ({"type": "step_failed", "metadata": None},
         "the event's metadata must be a mapping", "write metadata: {}"),
        ({"type": "run_failed", "step": "x"},
         "`run_failed` is about the run, it has no step", "remove the step"),
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_is_refused_with_what_to_write(
    given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(GivenProblem) as caught:
        event_of(given)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


# -- the command


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["test", *(str(word) for word in words)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


HEAD = "version: 1\nhatchet: {token: '${NOBODY_SET_THIS:?a token}'}\n"


def test_the_command_shows_what_differs_and_why(tmp_path: Path) -> None:
    text = (
        HEAD
        + STREAMS
        + f"""
tests:
  - {{name: good, stream: checkout, given: {CARD}, expect: {{event: paid, data: {{order: 7, last4: "42"}}}}}}
  - {{name: bad, stream: checkout, given: {CARD}, expect: {{event: paid, data: {{order: 8, last4: "42"}}}}}}
"""
    )
    status, output = run(written(tmp_path / "streams.yaml", text))
    assert status == 1
    assert output == (
        "ok    good\n"
        "FAIL  bad\n"
        "      - expected   + got\n"
        "        event: paid\n"
        "        data: {\n"
        '          "last4": "42",\n'
        '      -   "order": 8\n'
        '      +   "order": 7\n'
        "        }\n"
        "      rule tokens did not match: it is for step_stream\n"
        "      rule paid decided\n"
        "note  no test reaches the rule tokens of stream checkout\n"
        "note  no test reaches the rule ends of stream checkout\n"
        "2 tests, 1 failed\n"
    )


def test_all_pass_is_0_and_no_tests_is_0_too(tmp_path: Path) -> None:
    text = HEAD + STREAMS
    status, output = run(written(tmp_path / "none.yaml", text))
    assert (status, output) == (0, "There are no tests: write some under `tests:`.\n")
    text += "tests: [{name: n, stream: checkout, given: {type: step_failed}, expect: nothing}]\n"
    status, output = run(written(tmp_path / "one.yaml", text))
    assert status == 0
    assert output.endswith("1 test, all passed\n")


def test_a_folder_is_all_its_teams_without_their_secrets(tmp_path: Path) -> None:
    team = "version: 1\nstreams: {s: {rules: [{events: step_failed, data: \"'x'\"}]}}\n"
    team += "tests:\n  - {name: n, stream: s, "
    written(
        tmp_path / "proxy.yaml", "version: 1\nteams: {a: {hatchet: {token: '${file:/nowhere}'}}, b: {}}\n"
    )
    written(tmp_path / "teams" / "a.yaml", team + "given: {type: step_failed}, expect: {data: x}}\n")
    written(tmp_path / "teams" / "b.yaml", team + "given: {type: step_failed}, expect: nothing}\n")
    status, output = run(tmp_path)
    assert status == 1
    assert re.findall(r"^(team .*|ok .*|FAIL .*)$", output, re.M) == [
        "team a",
        "ok    n",
        "team b",
        "FAIL  n",
    ]
    assert run(tmp_path / "teams" / "a.yaml")[0] == 0


def test_problems_in_the_yaml_are_1_and_a_path_that_cannot_be_read_is_2(tmp_path: Path) -> None:
    status, output = run(
        written(tmp_path / "streams.yaml", HEAD + "streams: {s: {rules: [{events: step_complete}]}}\n")
    )
    assert status == 1
    assert "streams.yaml:3:" in output and "step_completed" in output
    assert run(tmp_path / "nothing.yaml")[0] == 2
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty")[0] == 2
    assert run()[0] == 2


def test_a_broken_team_file_does_not_keep_the_others_from_being_tested(tmp_path: Path) -> None:
    written(tmp_path / "teams" / "a.yaml", "version: 1\nstreams: {s: {rules: [{events: nonsense}]}}\n")
    written(tmp_path / "teams" / "b.yaml", "version: 1\nstreams: {s: {rules: [{events: step_failed}]}}\n")
    status, output = run(tmp_path)
    assert status == 1
    assert "teams/a.yaml:2:" in output
    assert "There are no tests" in output


def test_a_message_of_a_format_is_what_it_is_and_its_data() -> None:
    team = team_of("""
        streams:
          chat:
            format: ai-sdk
            rules: [{events: step_stream, as: text}]
        tests:
          - name: right
            stream: chat
            given: {type: step_stream, step: a, payload: Hi}
            expect: {as: text, data: Hi}
          - {name: open, stream: chat, given: {type: step_stream, step: a, payload: Hi}, expect: {data: Hi}}
          - name: wrong
            stream: chat
            given: {type: step_stream, step: a, payload: Hi}
            expect: {as: reasoning, data: Hi}
        """)
    right, undecided, wrong = run_tests(team)
    assert (right.passed, undecided.passed, wrong.passed) == (True, True, False)
    assert wrong.diff[:2] == ["- as: reasoning", "+ as: text"]
