"""The hints of `check` lead to something that works: what a hint proposes is checked again."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from config.checks.checker import Checked, Form, check
from config.expressions.api import compile_expression
from config.problems import Problem, errors
from config.render.report import as_text
from tests.support.secrets import HATCHET_TOKEN

ENV: Final = {"TOKEN": HATCHET_TOKEN, "ORIGIN_1": "https://a.example", "ORIGIN_2": "https://b.example"}
HEAD: Final = 'version: 1\nhatchet: {token: "${TOKEN}"}\n'
STREAMS: Final = "streams:\n  chat:\n    rules:\n      - events: step_completed\n"


def checked(text: str, **env: str) -> Checked:
    return check("streams.yaml", text.encode(), Form.SINGLE, ENV | env)


def rule(line: str) -> str:
    return f"{HEAD}{STREAMS}        {line}\n"


def stream(line: str) -> str:
    return f"{HEAD}streams:\n  chat:\n    {line}\n    rules: [{{events: step_completed}}]\n"


def server(line: str) -> str:
    return f"{HEAD}server: {{{line}}}\nstreams: {{chat: {{rules: [{{events: step_completed}}]}}}}\n"


def hatchet(line: str) -> str:
    return server("linger: 30s").replace("{token:", f"{{{line}, token:")


def events(value: str) -> str:
    return f"{HEAD}streams:\n  chat:\n    rules:\n      - events: {value}\n"


def steps(value: str) -> str:
    return rule(f"steps: {value}")


def limits(line: str) -> str:
    return f"{server('linger: 30s')}limits:\n  {line}\n"


def step_field(line: str) -> str:
    events = "step_stream" if line.startswith("whole") else "step_completed"
    return rule(line).replace("events: step_completed", f"events: {events}\n        steps: answer")


def field(value: str) -> str:
    return rule(f"data: {{x: {value}}}")


def data(value: str) -> str:
    return rule(f"data: {value}")


# (how a file is made, what was written, the code, what the hint proposes)
HINTS: Final[list[tuple[Any, str, str, str | int]]] = [
    # constants and templates
    (field, "'finished'", "unknown-field", "\"'finished'\""),
    (field, "finished", "unknown-field", "\"'finished'\""),
    (field, "Hello world", "syntax", "\"'Hello world'\""),
    (field, "It's done", "syntax", "'`\"It''s done\"`'"),
    (field, '"Token: {payload.text}"', "syntax", "join('', ['Token: ', payload.text])"),
    (field, '"{{ payload.text }}"', "syntax", "payload.text"),
    (field, "{{ payload }}", "template", "payload"),
    (field, "event.payload.x", "unknown-field", "payload.x"),
    (field, "attempt + 1", "syntax", "add(attempt, `1`)"),
    (field, "true", "wrong-type", '"`true`"'),
    (field, "3", "wrong-type", '"`3`"'),
    (field, "null", "empty", '"`null`"'),
    (field, "[]", "wrong-type", '"`[]`"'),
    (field, "[step, type]", "wrong-type", '"[step, type]"'),
    (field, "[1, 2]", "wrong-type", "'`[1, 2]`'"),
    (field, "{}", "wrong-type", '"`{}`"'),
    (field, "{a: step}", "wrong-type", '"{a: step}"'),
    (data, "[step, type]", "wrong-type", '"[step, type]"'),
    (data, "[]", "wrong-type", '"`[]`"'),
    # lists in one text
    (events, "step_completed, run_failed", "unknown-event", "[step_completed, run_failed]"),
    (events, "step_completed run_failed", "unknown-event", "[step_completed, run_failed]"),
    (events, "step_completed|run_failed", "unknown-event", "[step_completed, run_failed]"),
    (events, '"*, step_stream"', "unknown-event", '["*", step_stream]'),
    (events, "tokens", "unknown-event", "step_stream"),
    (events, "message", "unknown-event", "step_stream"),
    (events, "completed", "unknown-event", "step_completed"),
    (events, "completed", "unknown-event", "run_completed"),
    (events, "error", "unknown-event", "run_failed"),
    (events, "done", "unknown-event", "run_*"),
    (events, "stream.end", "unknown-event", "run_*"),
    (events, "all", "unknown-event", '"*"'),
    (steps, "start, load_docs", "step-name", "[start, load_docs]"),
    (steps, "start load_docs", "step-name", "[start, load_docs]"),
    (steps, '"*_docs, start"', "step-name", '["*_docs", start]'),
    (stream, 'cors: {origins: "https://a.example, https://b.example"}', "origin",
     "[https://a.example, https://b.example]"),
    # values
    (server, "linger: 30", "duration", "30s"),
    (server, "linger: 1.5s", "duration", "1500ms"),
    (server, "linger: 1h30m", "duration", "90m"),
    (server, "linger: 1d", "duration", "24h"),
    (server, "linger: 2 minutes", "duration", "2m"),
    (server, "linger: 999999999999999999h", "out-of-range", "8760h"),
    (server, "linger: 99999h", "out-of-range", "8760h"),
    (stream, "retry: 999999999999999999h", "out-of-range", "8760h"),
    (stream, "backlog: {bytes: 10MB}", "size", "10MiB"),
    (stream, "backlog: {bytes: 99999999999999999999GiB}", "out-of-range", "1024GiB"),
    (stream, "backlog: {bytes: 4096GiB}", "out-of-range", "1024GiB"),
    # paths and origins
    (stream, "path: https://x/a/{workflowRunId}", "path", "/a/{workflowRunId}"),
    (stream, "path: //x/a/{workflowRunId}", "path", "/a/{workflowRunId}"),
    (stream, "path: a/{workflowRunId}", "path", "/a/{workflowRunId}"),
    (stream, "path: '/a?run={workflowRunId}'", "path", "/a/{workflowRunId}"),
    (stream, "path: '/a/?chat={metadata.chat}#x'", "path", "/a/{metadata.chat}"),
    (stream, "path: '/a/{additional_metadata.chat}'", "path", "/a/{metadata.chat}"),
    (stream, "path: '/a/{additionalMetadata.chat}'", "path", "/a/{metadata.chat}"),
    (stream, "path: '/a/{workflowRunId}/'", "path", "/a/{workflowRunId}"),
    (stream, "path: '/a//{workflowRunId}'", "path", "/a/{workflowRunId}"),
    (stream, "path: '/a/{workflowRunId}?x=1'", "path", "/a/{workflowRunId}"),
    (stream, "path: '/a/{workflowRunId}#top'", "path", "/a/{workflowRunId}"),
    (stream, "path: /chat/:id", "path", "/chat/{workflowRunId}"),
    (stream, "path: /chat/<run_id>/events", "path", "/chat/{workflowRunId}/events"),
    (stream, "path: '/chat/[id]'", "path", "/chat/{workflowRunId}"),
    (stream, "path: '/chat/{{workflowRunId}}'", "path", "/chat/{workflowRunId}"),
    (stream, "path: '/chat/{ workflowRunId }'", "path", "/chat/{workflowRunId}"),
    (stream, "path: '/chat/{workflow_run_id}'", "path", "/chat/{workflowRunId}"),
    (stream, "path: '/chat/{ metadata.chat }/log'", "path", "/chat/{metadata.chat}/log"),
    (stream, "cors: {origins: app.example}", "origin", "https://app.example"),
    (stream, "cors: {origins: localhost:3000}", "origin", "http://localhost:3000"),
    # numbers and booleans where a word is needed
    (step_field, "event: 1.10", "wrong-type", "1.10"),
    (step_field, "event: 1e3", "wrong-type", "1e3"),
    (step_field, "event: 0o17", "wrong-type", "0o17"),
    (step_field, "event: True", "wrong-type", "True"),
    (step_field, "when: [step, type]", "wrong-type", "step && type"),
    (step_field, "whole: true", "wrong-type", "payload.answer"),
    (hatchet, "host_port: 7077", "wrong-type", "hatchet:7077"),
    (hatchet, "host_port: hatchet", "address", "hatchet:7077"),
    (hatchet, "host_port: hatchet:0", "address", "hatchet:7077"),
    (hatchet, "tls: false", "choice", "none"),
    (hatchet, "tls: off", "choice", "none"),
    (hatchet, "tls: true", "choice", "tls"),
    (hatchet, "api: false", "choice", "off"),
    (hatchet, "api: no", "choice", "off"),
    (server, "admin_port: off", "wrong-type", "none"),
    (server, "admin_port: false", "wrong-type", "none"),
    (limits, "connections: 1_000", "wrong-type", 1000),
    (limits, "connections: 1e3", "wrong-type", 1000),
    (limits, "connections: 1,000", "wrong-type", 1000),
    (limits, "connections: 5k", "wrong-type", 5000),
    (stream, "cors: {origins: https://app.example/chat}", "origin", "https://app.example"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "wrong", "code", "right"), HINTS, ids=[f"{each[0].__name__}-{each[1]}" for each in HINTS]
)
def test_a_hint_put_into_the_file_works(make: Any, wrong: str, code: str, right: str | int) -> None:
    found = [problem for problem in checked(make(wrong)).problems if problem.code == code]
    assert found, checked(make(wrong)).problems
    assert str(right) in found[0].hint
    assert errors(checked(put(make, wrong, right)).problems) == ()


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        (stream("path: '/chat/{metadata[chat]}'"), "path", "{metadata.chat}"),
        (stream("path: '/chat/{Metadata.chat}'"), "path", "{metadata.chat}"),
        (stream("cors: {origins: https://a.example, headers: 'x-a, x-b'}"), "header", "[x-a, x-b]"),
        (stream("cors: {origins: 'http://127.1:3000'}"), "origin", "http://127.0.0.1:3000"),
        (server("host: 256.1.1.1"), "address", "127.0.0.1"),
        (hatchet("api: http://hatchet:99999"), "url", "a port up to 65535"),
        (hatchet("api: 'https://hatchet.example?x=1'"), "url", "end it before"),
        (hatchet("api: 'https://hatchet.example#x'"), "url", "end it before"),
        (hatchet("api: 'http://user:word@hatchet'"), "url", "remove them"),
        (server("host: 10.0.1"), "address", "127.0.0.1"),
        (server("port: 9090, admin_port: 9090"), "same-port", "choose another"),
        (server("admin_port: 8080"), "same-port", "choose another"),
        (rule("when: \"'payload.done'\""), "constant-condition", "payload.done"),
        (stream("path: ''"), "empty", "like `path: /chat/{workflowRunId}`"),
        (events("''"), "empty", "like `events: step_completed`"),
        (rule("event: payload.kind"), "constant", "with `when`"),
        (rule("event: 'step-{step}'"), "constant", "with `when`"),
        (server("host: 0.0.0.0"), "no-auth", "`auth: none`"),
        (server('host: "::"'), "no-auth", "`auth: none`"),
        (server("host: proxy.example"), "no-auth", "`auth: none`"),
        # keys in the wrong place
        (rule("heartbeat: 15s"), "unknown-key", "it belongs to a stream, beside its `rules:`"),
        (rule("path: /a/{workflowRunId}"), "unknown-key", "it belongs to a stream, beside its `rules:`"),
        (stream("merge: 50ms"), "unknown-key", "it belongs to a rule, under `rules:`"),
        (stream("events: step_failed"), "unknown-key", "it belongs to a rule, under `rules:`"),
        (stream("tap: {stream: x}"), "unknown-key", "it belongs under `hatchet:`"),
        (stream("tests: []"), "unknown-key", "it belongs at the top of the file"),
        (stream("keep_after_end: 5m"), "unknown-key", "it belongs to a stream, under its `backlog:`"),
        (server("linger: 30s") + "port: 80\n", "unknown-key", "it belongs under `server:`"),
        (server("linger: 30s") + "cors: {}\n", "unknown-key", "it belongs to a stream, beside its `rules:`"),
        (server("grace: 20s"), "unknown-key", "it belongs under `server:`, `drain:`"),
        (server("workers: 4"), "unknown-key", "serve --workers N"),
        (server("tls: {}"), "unknown-key", "the server in front of it has the certificate"),
        (rule("on_error:"), "empty", 'like `on_error: "null"`'),
        (
            server("linger: 30s")
            + "tests: [{name: a, stream: chat, given: {type: step_failed}, expect: none}]\n",
            "expect",
            "write `nothing`",
        ),
    ],
)
def test_a_mistake_is_named_once_with_what_to_write(text: str, code: str, hint: str) -> None:
    [found] = checked(text).problems
    assert found.code == code
    assert hint in found.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", '"::1"', '"[::1]"', "localhost"])
def test_loopback_needs_no_auth(host: str) -> None:
    assert checked(server(f"host: {host}")).problems == ()


def test_beyond_loopback_the_team_without_auth_is_named() -> None:
    team = 'hatchet: {token: "${TOKEN}"}'
    teams = f"teams:\n  a: {{{team}, auth: none}}\n  b: {{{team}}}\n"
    text = f"version: 1\nserver: {{host: 0.0.0.0}}\n{teams}"
    [found] = check("proxy.yaml", text.encode(), Form.PROXY, ENV).problems
    assert (found.severity, found.code) == ("warning", "no-auth")
    assert "for the team `b`" in found.message
    assert checked(f"{server('host: 0.0.0.0')}auth: none\n").problems == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_named_as_such(encoding: str) -> None:
    [found] = check("streams.yaml", server("linger: 30s").encode(encoding), Form.SINGLE, ENV).problems
    assert (found.code, found.message) == ("encoding", "the file is UTF-16 text")


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("HATCHET_CLIENT_SERVER_URL", "http://hatchet:99999", "a port up to 65535"),
        ("HATCHET_CLIENT_SERVER_URL", "http://a b", "a port up to 65535"),
        ("HATCHET_CLIENT_SERVER_URL", "https://hatchet?x=1", "end it before"),
        ("HATCHET_CLIENT_SERVER_URL", "http://user:word@hatchet", "remove them"),
        ("HATCHET_CLIENT_TLS_STRATEGY", "NONE", "`none`"),
        ("HATCHET_CLIENT_TLS_STRATEGY", "off", "write `tls:` here"),
    ],
)
def test_a_variable_of_the_sdk_that_cannot_work_has_a_hint(variable: str, value: str, hint: str) -> None:
    [found] = checked(server("linger: 30s"), **{variable: value}).problems
    assert variable in found.message
    assert value not in found.message + found.hint
    assert hint in found.hint
    assert not found.hint.startswith(";")


def test_ports_that_the_system_chooses_are_never_the_same() -> None:
    assert checked(server("port: 0, admin_port: 0")).problems == ()
    assert checked(server("port: 9090, admin_port: 8080")).problems == ()


def put(make: Any, wrong: str, right: str | int) -> str:
    """The file with what the hint proposes instead of the value that was wrong."""
    if make in (field, data, events, steps) and isinstance(right, str):
        quoted = right if right[0] in "\"'[" else json.dumps(right)
        return str(make(quoted))
    key, _, value = wrong.rpartition(": ")
    closing = "}" if value.endswith("}") and "{" not in value else ""
    listed = isinstance(right, str) and right[0] == "["
    return str(make(f"{key}: {right if listed else json.dumps(right)}{closing}"))


def test_a_constant_that_yaml_took_the_quotes_of_is_sent_as_it_is() -> None:
    [problem] = checked(field("'finished'")).problems
    written, _, without = problem.hint.rpartition("YAML: ")[2].partition("; or without them: ")
    assert without == "`const: {x: finished}`"
    assert checked(rule(without.strip("`"))).problems == ()
    model: Any = checked(field(written)).model
    assert compile_expression(model.streams["chat"].rules[0].data["x"]).evaluate({}) == "finished"


# -- values of variables


def only(found: Checked) -> Problem:
    [problem] = found.problems
    return problem


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        ("8080\n", "ends in a line break"),
        ("8080\r\n", "ends in a line break"),
        (" 8080", "begins with a blank"),
        ("8080 ", "ends in a blank"),
        ("'8080'", "has quotes around it"),
        ('"8080"', "has quotes around it"),
        ("8080\u00a0", "ends in a no-break space (U+00A0)"),
    ],
)
def test_what_is_wrong_with_a_variables_value_is_reported_and_our_own_words_stay(
    value: str, flaw: str
) -> None:
    problem = only(checked(server('port: "${PORT}"'), PORT=value))
    assert problem.message == f"`port` must be a whole number, but this is the text [redacted], which {flaw}"
    assert problem.hint == "like `port: 8080`"


@pytest.mark.parametrize("value", ["port", "whole", "number", "text", "like", "8080", "must"])
def test_a_value_that_is_one_of_our_words_masks_no_word(value: str) -> None:
    problem = only(checked(server('port: "${PORT}"'), PORT=value + "!", OTHER=value))
    assert "[redacted]" not in problem.message.replace("the text [redacted]", "")
    assert problem.hint == "like `port: 8080`"
    other = checked(server('port: many, host: "${HOST}"') + "auth: none\n", HOST=value)
    assert only(other).message == "`port` must be a whole number, but this is the text `many`"


def test_one_variable_holds_one_origin() -> None:
    origins = "https://app.example.com,https://www.example.com"
    problem = only(checked(stream('cors: {origins: "${ORIGINS}"}'), ORIGINS=origins))
    assert problem.message == "entry 1 of `origins` holds several origins, and one variable holds one"
    assert problem.hint == 'write a list: ["${ORIGIN_1}", "${ORIGIN_2}"]'
    assert checked(stream('cors: {origins: ["${ORIGIN_1}", "${ORIGIN_2}"]}')).problems == ()


def test_the_beginning_of_a_long_value_is_not_shown_either() -> None:
    value = "step_" + "s3cr3t" * 20
    found = checked(events('"${E}"'), E=value)
    assert found.problems
    assert "s3cr3t" not in as_text([found])


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example:8443", "https://xn--bcher-kva.example:8443"),
        ("https://stra\u00dfe.example", "https://xn--strae-oqa.example"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://\u4f8b\u3048.jp", "http://xn--r8jz45g.jp"),
    ],
)
def test_an_origin_is_what_browsers_send(origin: str, sent: str) -> None:
    model: Any = checked(stream(f"cors: {{origins: {origin}}}")).model
    assert model.streams["chat"].cors.origins == (sent,)


def test_the_origin_null_cannot_be_listed() -> None:
    problem = only(checked(stream('cors: {origins: ["null"]}')))
    assert problem.message == "entry 1 of `origins` must not be `null`: any page can send that"
    assert "https://null" not in problem.hint


# -- files that are something else


MANIFEST: Final = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: proxy}
data:
  streams.yaml: |
    version: 1
"""
KUBERNETES: Final = "this is a Kubernetes manifest; the configuration is a text in its `data`"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MANIFEST, "this is a Kubernetes manifest; the configuration is a text in its `data`"),
        (
            MANIFEST + "---\n" + MANIFEST,
            "this is a Kubernetes manifest; the configuration is a text in its `data`",
        ),
        ("services: {proxy: {image: x}}\n", "this is a compose file"),
        ("on: push\njobs: {}\n", "this is a workflow of a build service"),
        ("openapi: 3.1.0\ninfo: {}\n", "this is an OpenAPI description"),
    ],
)
def test_a_file_of_another_program_is_named_once(text: str, message: str) -> None:
    for form in (Form.SINGLE, Form.TEAM, Form.PROXY, None):
        found = check("x.yaml", text.encode(), form, ENV)
        assert [problem.message for problem in found.problems] == [message]
        assert found.model is None
        assert found.problems[0].hint


@pytest.mark.parametrize(
    ("line", "place", "name"),
    [
        ("\u00a0\u00a0\u00a0\u00a0path: /a/{workflowRunId}", (5, 1), "no-break space (U+00A0)"),
        ("  \u00a0 path: /a/{workflowRunId}", (5, 3), "no-break space (U+00A0)"),
        ("    path\u200b: /a/{workflowRunId}", (5, 9), "zero width space (U+200B)"),
        ("    \ufeffpath: /a/{workflowRunId}", (5, 5), "zero width no-break space (U+FEFF)"),
        ("    path\u00a0: /a/{workflowRunId}", (5, 9), "no-break space (U+00A0)"),
        ("\u3000\u3000path: /a/{workflowRunId}", (5, 1), "ideographic space (U+3000)"),
    ],
)
def test_an_invisible_character_is_named_with_its_place(line: str, place: tuple[int, int], name: str) -> None:
    text = f"{HEAD}streams:\n  chat:\n{line}\n    rules: [{{events: step_completed}}]\n"
    problem = only(checked(text))
    assert (problem.line, problem.column, problem.code) == (*place, "invisible-character")
    assert name in problem.message
    assert "\u00a0" not in problem.message


def test_an_invisible_character_within_a_text_is_just_text() -> None:
    assert checked(field("\"'a\u00a0b'\"")).problems == ()


def test_brackets_that_are_too_deep_are_said_to_be_too_deep() -> None:
    for depth in (40, 5000):
        problem = only(checked("a: " + "[" * depth + "]" * depth))
        assert (problem.code, problem.message) == ("too-deep", "nested deeper than 32 levels")


@pytest.mark.parametrize("depth", [40, 1500])
def test_brackets_that_are_not_closed_are_said_to_be_too_deep_first(depth: int) -> None:
    assert only(checked("a: " + "[" * depth)).code == "too-deep"


def test_json_escapes_of_characters_beyond_the_first_plane_are_read() -> None:
    text = field("\"'\\ud83d\\ude00 \\uD83D\\uDE80'\"")
    model: Any = checked(text).model
    assert model.streams["chat"].rules[0].data["x"] == "'\U0001f600 \U0001f680'"
    given = {"name": "\U0001f600", "stream": "chat", "given": {"type": "step_completed"}, "expect": "nothing"}
    whole = {"version": 1, "hatchet": {"token": HATCHET_TOKEN}, "tests": [given],
             "streams": {"chat": {"rules": [{"events": "step_failed"}]}}}  # fmt: skip
    found = checked(json.dumps(whole))
    assert errors(found.problems) == ()
    assert found.source.data == whole


def test_a_backslash_outside_of_double_quotes_is_a_backslash() -> None:
    model: Any = checked(field("'`\"\\ud83d\\ude00\"`'")).model
    assert model.streams["chat"].rules[0].data["x"] == '`"\\ud83d\\ude00"`'
    model = checked(field("\"'\\\\ud83d'\"")).model
    assert model.streams["chat"].rules[0].data["x"] == "'\\ud83d'"


@pytest.mark.parametrize("escape", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00"])
def test_half_of_a_character_is_an_error_that_says_so(escape: str) -> None:
    problem = only(checked(field(f'"{escape}"')))
    assert (problem.code, problem.message) == (
        "surrogate",
        "half of a character: a surrogate without the other one of its pair",
    )


def test_the_place_of_a_problem_after_an_escape_is_right() -> None:
    text = field("\"'\\ud83d\\ude00' == nope\"")
    problem = only(checked(text))
    line = text.splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith("nope")


# -- names of steps


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("genrate_response", "generate_response"),
        ("generate_respones", "generate_response"),
        ("load_documents", "load_document"),
        ("anwser", "answer"),
        ("summarise", "summarize"),
    ],
)
def test_a_step_that_is_nearly_another_is_warned_of(one: str, other: str) -> None:
    text = f"{HEAD}streams:\n  chat:\n    rules:\n      - {{events: step_stream, steps: {other}}}\n"
    text += f"      - {{events: step_completed, steps: [{other}, {one}]}}\n"
    problem = only(checked(text))
    assert (problem.severity, problem.code) == ("warning", "step-name")
    assert problem.hint == f"write `{other}`, if that is meant"


@pytest.mark.parametrize(
    ("one", "other"),
    [("step_1", "step_2"), ("step_a", "step_b"), ("encode", "decode"), ("upload", "unload"), ("v1", "v2"),
     ("input_text", "output_text"), ("answer_en", "answer_de"), ("start", "stop"), ("answer*", "answers")],
)  # fmt: skip
def test_steps_that_are_two_steps_are_not(one: str, other: str) -> None:
    assert checked(steps(json.dumps([one, other]))).problems == ()


# -- more problems than are shown


def many(count: int, last: str = "") -> str:
    streams = "".join(f"  s{n}: {{rules: []}}\n" for n in range(count))
    return f"{HEAD}streams:\n{streams}{last}"


def test_warnings_beyond_those_that_are_shown_are_a_warning() -> None:
    found = checked(many(201))
    assert errors(found.problems) == ()
    assert found.model is not None
    assert (len(found.problems), found.problems[-1].message) == (201, "and 1 more warnings")


@pytest.mark.parametrize("count", [250, 1500])
def test_no_error_is_cut_off_by_warnings_before_it(count: int) -> None:
    found = checked(many(count, "  last: {rules: [{events: step_complet, when: 'nope ='}]}\n"))
    assert {each.code for each in errors(found.problems)} == {"unknown-event", "syntax"}
    assert found.model is None
    assert len(found.problems) == 201


# -- text behind JSON


JSON_FIRST: Final = (
    "{events: step_stream, steps: %s, payload: json, on_error: skip, when: payload.tool, data: payload.tool}"
)
TEXT: Final = "{events: step_stream, steps: %s, when: payload != '', data: payload}"


@pytest.mark.parametrize(
    ("one", "other", "warned"),
    [
        ("answer", "answer", True),
        ('"a*"', "answer", True),
        ("answer", '"*"', True),
        ("answer", "other", False),
    ],
)
def test_text_chunks_that_a_rule_for_json_skips_are_warned_of(one: str, other: str, warned: bool) -> None:
    head = f"{HEAD}streams:\n  chat:\n    rules:\n"
    found = checked(f"{head}      - {JSON_FIRST % one}\n      - {TEXT % other}\n")
    assert [each.code for each in found.problems] == (["chunks-skipped"] if warned else [])
    passed_on = checked(
        f"{head}      - {JSON_FIRST.replace(' on_error: skip,', '') % one}\n      - {TEXT % other}\n"
    )
    assert [each.code for each in passed_on.problems] == []
    turned = checked(f"{head}      - {TEXT % other}\n      - {JSON_FIRST % one}\n")
    assert [each.code for each in turned.problems] == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + '"a\\nb": 1\n',
        HEAD + 'streams: {"a\\nb": {}}\n',
        steps('"a\\nb"'),
        rule('"a\\u2028\\e[2J": 1'),
        events('"a\\nb"'),
        stream('path: "/a\\n/{workflowRunId}"'),
        rule('data: {"a\\nb": "pay load"}'),
        rule('data: "payload.\\"a\\\\nb\\" ? 1"'),
    ],
)
def test_a_message_is_one_line_whatever_a_name_has_in_it(text: str) -> None:
    problems = checked(text).problems
    assert problems
    for problem in problems:
        assert f"{problem.message}{problem.hint}".isprintable(), problem
