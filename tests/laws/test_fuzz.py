"""Strangers' bytes: no input crashes or hangs a parser, a loader, a rule or a verdict.

Three kinds of input each: anything at all, our own output bent a little, and our own grammar grown at random.
What is looked for is written in the test: the one exception that a parser may raise, or a law of its result.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.checks.checker import Form, check
from config.expressions.api import (
    ExpressionFailed,
    ExpressionProblem,
    compile_allow,
    compile_expression,
    lint,
)
from config.expressions.budget import WORK_LIMIT, Meter
from config.model.files import AuthConfig, CorsConfig, StreamConfig
from config.problems import ERROR
from proxy.access.authenticator import Authenticator, RequestHead, Unauthenticated
from proxy.access.errors import BadTicketRequest, TicketRefused, TicketRequest
from proxy.access.origins import Origins
from proxy.access.tickets import Tickets, claims_named
from proxy.core.events import RUN_EVENTS, STEP_STREAM, Event
from proxy.log.cursor import end_cursor, read_cursor, run_id_of
from proxy.log.frames import LocalFrames
from proxy.rules.ruleset import Rules
from proxy.teams.router import Router
from tests.support.secrets import HATCHET_TOKEN, hatchet_token

SLOW: Final = settings(max_examples=150)
RUN: Final = "7b1c5a3e-9f1d-4c49-8f0e-0f5f5f6d2a11"

JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["\ud800", "\u2028", "\r\n\r\ndata: x", "id: 7\n", "\x00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@st.composite
def bent(draw: st.DrawFn, text: str) -> str:
    """`text` with a few characters exchanged, taken out or put in."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 3))
        text = text[:at] + draw(st.text(max_size=3)) + text[at + gone :]
    return text


# -- cursors ------------------------------------------------------------------------------------------

IDS: Final = LocalFrames(b"s" * 32, team="t", stream="chat", run_id=RUN, value="", rules="r", session=1)
CURSORS: Final = (IDS.at(17).decode(), end_cursor("t", "chat", RUN))


@given(
    st.text() | st.sampled_from(CURSORS).flatmap(bent) | st.binary().map(lambda raw: raw.decode("latin-1"))
)
def test_any_cursor_is_read_or_is_none_and_none_is_taken_for_what_it_is_not(text: str) -> None:
    cursor = read_cursor(text)
    if cursor is None:
        return
    assert run_id_of(cursor.run_id) == cursor.run_id
    if cursor.place is not None and IDS.holds(cursor):
        # our seal is not kept from whoever got a cursor of the channel: the place is what he may choose
        assert text == IDS.at(cursor.place).decode() or cursor.run_id != RUN


@given(st.integers(0, 10**15 - 1))
def test_every_cursor_of_ours_comes_back_as_it_was(place: int) -> None:
    cursor = read_cursor(IDS.at(place).decode())
    assert cursor is not None and cursor.place == place and cursor.run_id == RUN and IDS.holds(cursor)


@given(st.text() | bent(RUN))
def test_any_run_id_is_canonical_or_none(text: str) -> None:
    assert run_id_of(text) in (None, text.lower())


# -- tickets and tokens -----------------------------------------------------------------------------------

OFFICE: Final = Tickets(
    "the key of the tickets", team="t", lifetime=86_400.0
)  # also on a machine that takes its time
TICKET: Final = OFFICE.mint({"sub": "ada"}, stream="chat", run=RUN, named=None, until=None)[0]
TEAM: Final = Authenticator(
    AuthConfig.model_validate(
        {
            "jwt": {"key": "s" * 64, "algorithms": ["HS256", "HS512"]},
            "from": ["bearer", "cookie:s", "ticket"],
            "tickets": {"key": "the key of the tickets"},
        }
    ),
    team="t",
)


@given(st.text() | bent(TICKET))
def test_any_ticket_but_the_very_one_is_refused(text: str) -> None:
    if text == TICKET:
        return
    with pytest.raises(TicketRefused):
        OFFICE.read(text, stream="chat", run=RUN, named=None)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_request_for_a_ticket_is_read_or_refused(body: bytes) -> None:
    try:
        asked = TicketRequest.read(body)
    except BadTicketRequest:
        return
    assert asked.stream and 0 < len(asked.run) <= 200


@given(st.text(max_size=200))
def test_the_claims_of_any_allow_are_named_or_all(text: str) -> None:
    named = claims_named(text)
    assert named is None or all(name in text for name in named)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"cookie", b"Cookie", b"origin"]) | st.binary(), st.binary()
        ),
        max_size=6,
    ),
    st.binary() | st.just(b"ticket=" + TICKET.encode()[:-2]),
)
def test_any_headers_and_query_are_an_answer_and_no_way_in(
    headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    asked = RequestHead.read(headers, query)
    with pytest.raises(Unauthenticated) as refused:
        asyncio.run(TEAM.authenticate(asked, stream="chat", run=RUN))
    assert "\n" not in refused.value.challenge and refused.value.challenge.isascii()


@given(st.text() | bent(TICKET))
def test_any_bearer_token_is_refused(text: str) -> None:
    asked = RequestHead(
        {"authorization": f"Bearer {text}"}, {"s": text}, {"ticket": text if text != TICKET else ""}
    )
    with pytest.raises(Unauthenticated):
        asyncio.run(TEAM.authenticate(asked, stream="chat", run=RUN))


# -- pages and paths --------------------------------------------------------------------------------------

PAGES: Final = Origins(
    CorsConfig(origins=("https://app.example.com",), credentials=True), accepts_cookies=True
)


@given(
    st.text() | bent("https://app.example.com"),
    st.text() | st.sampled_from(["app.example.com", "streams.example.com"]),
)
def test_any_origin_is_allowed_only_as_it_is_listed_or_as_the_own_host(origin: str, host: str) -> None:
    verdict = PAGES.decide({"origin": origin, "host": host}, "http")
    shared = [value for name, value in verdict.headers if name == b"access-control-allow-origin"]
    assert shared in ([], [origin.encode("latin-1", "replace")])
    if shared:
        assert origin.lower().removesuffix(":443") == "https://app.example.com"
    elif verdict.refused is None:
        assert host.lower().split(":")[0] in origin.lower()


@given(st.text(alphabet=st.characters(max_codepoint=127)) | bent("/chat/x/y").filter(str.isascii))
def test_any_path_finds_one_stream_or_none(path: str) -> None:
    routes = Router({"/chat/{workflowRunId}": 1, "/a/{metadata.x}/b": 2, "/r-{workflowRunId}.sse": 3})
    found = routes.match(path)
    if found is not None:
        assert found.value
        assert path.count("/") == {1: 2, 2: 3, 3: 1}[found.target]


# -- YAML -------------------------------------------------------------------------------------------------

GOOD: Final = """
version: 1
hatchet: {token: "${TOKEN:?needed}"}
auth:
  jwt: {key: "ssssssssssssssssssssssssssssssssss", algorithms: [HS256], audience: a}
  from: [bearer, "cookie:session", ticket]
  tickets: {key: "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", lifetime: 10m}
shapes: {small: &x {id: payload.id}}
streams:
  chat:
    path: /chat/{workflowRunId}
    allow: claims.sub == run.metadata.user_id
    rules:
      - events: [step_*, run_failed]
        steps: "a?*"
        when: payload != ''
        payload: json
        data: {text: "payload.items[?x > `1`].name | [0]", n: "length(not_null(payload.items, `[]`))"}
tests:
  - {name: n, stream: chat, given: {type: step_completed, step: ab, payload: {}}, expect: nothing}
"""
SCRAPS: Final = (
    "version streams rules events data steps when hatchet token auth limits use shapes tests given - : , "
    "[ ] { } & * ! | > &a *a !!python/object/apply:os.system <<: ${X} ${file:/etc/passwd} --- ... %YAML # "
    "\t \n \ufeff \x00 1 on 0x1 012 1:30 2024-01-01 .nan ~ ' \" \\"
)
WORDS: Final = st.sampled_from(SCRAPS.split(" "))
FUNCTIONS: Final = (
    "abs avg ceil floor keys length max min reverse sort sum to_array to_number to_string type values"
)


def test_what_the_fuzzers_start_from_is_good() -> None:
    problems = check("f.yaml", GOOD.encode(), Form.SINGLE, {"TOKEN": HATCHET_TOKEN}).problems
    assert [problem.message for problem in problems if problem.severity == ERROR] == []
    assert OFFICE.read(TICKET, stream="chat", run=RUN, named=None).claims == {"sub": "ada"}


@SLOW
@given(
    st.binary(max_size=400)
    | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | bent(GOOD).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(WORDS, max_size=60).map(lambda words: " ".join(words).encode())
    | JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([Form.SINGLE, Form.TEAM, Form.PROXY, None]),
)
def test_any_file_is_a_model_or_problems_with_places(content: bytes, form: Form | None) -> None:
    checked = check("f.yaml", content, form, {"TOKEN": hatchet_token("planted-secret")})
    assert (checked.model is None) == any(problem.severity == ERROR for problem in checked.problems)
    for problem in checked.problems:
        assert problem.line >= 1 and problem.column >= 1 and problem.message
        assert "\n" not in problem.message
        assert "planted-secret" not in f"{problem.message} {problem.hint}"


# -- expressions and rules ----------------------------------------------------------------------------------

FIELDS: Final = st.sampled_from(
    ["type", "step", "payload", "payload.a", "metadata.user", "attempt", "index", "@"]
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    one_argument = st.sampled_from(FUNCTIONS.split())
    return (
        two.map(" || ".join)
        | two.map(" && ".join)
        | two.map(" == ".join)
        | two.map(" < ".join)
        | two.map(" | ".join)
        | two.map("[{0[0]}, {0[1]}]".format)
        | two.map("{{x: {0[0]}, y: {0[1]}}}".format)
        | two.map("not_null({0[0]}, {0[1]})".format)
        | two.map("contains({0[0]}, {0[1]})".format)
        | two.map("join({0[0]}, {0[1]})".format)
        | inner.map("!({0})".format)
        | inner.map("({0})[*]".format)
        | inner.map("({0})[]".format)
        | inner.map("({0}).*".format)
        | inner.map("({0})[1:3]".format)
        | inner.map("({0})[?a > `1`]".format)
        | inner.map("sort_by({0}, &a)".format)
        | inner.map("map(&[@, @], {0})".format)
        | st.tuples(one_argument, inner).map("{0[0]}({0[1]})".format)
    )


STEPS_PER_UNIT: Final = 10
"""Python calls and returns for each unit of an evaluation's budget: measured are up to 6.5."""

FREE_STEPS: Final = 1000
"""Calls and returns of an expression over these payloads that spend no budget; measured are up to 65."""


def steps(call: Callable[[], object]) -> int:
    """How many functions `call` enters and leaves: its work, whatever else the machine does."""
    count = 0

    def one_more(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(one_more)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count


EXPRESSIONS: Final = st.recursive(
    FIELDS | st.sampled_from(["'x'", "`1`", "`null`", "`[1, 2]`"]), _grow, max_leaves=12
)
CLAIMS: Final = EXPRESSIONS.map(
    lambda text: text.replace("payload", "claims").replace("metadata", "run.metadata")
)
ALLOWS: Final = (
    CLAIMS
    | CLAIMS.map("({0}) == ({0})".format)
    | st.tuples(CLAIMS, CLAIMS).map("({0[0]}) != ({0[1]})".format)
    | st.sampled_from(["claims.a", "claims.a == `1`", "run.id != claims.a", "contains(claims.a, `1`)"])
)
PAYLOADS: Final = JSON | st.just({"a": [{"a": 1}, {"a": 2}]}) | st.just([3, 1, 2])
LARGE: Final = [list(range(60))] * 60  # too much for an expression that spends no budget
EVENTS: Final = st.builds(
    Event,
    type=st.sampled_from([STEP_STREAM, "step_completed", "step_failed", *RUN_EVENTS]),
    run_id=st.just(RUN),
    step=st.sampled_from(["answer", "s\r\nid: 1", None]),
    payload=PAYLOADS,
    attempt=st.integers(1, 3),
    index=st.none() | st.integers(0, 3),
    metadata=st.dictionaries(st.sampled_from(["user", "x"]), st.text(max_size=5), max_size=2),
)


@SLOW
@example("map(&map(&(@ == `1`), @), payload)", LARGE)
@example("payload[?sort(@) == sort(@)]", LARGE)
@given(st.text(max_size=100) | EXPRESSIONS | EXPRESSIONS.flatmap(bent), PAYLOADS)
def test_any_expression_is_complained_of_or_ends_in_a_value_or_a_failure(text: str, payload: Any) -> None:
    diagnostics = lint(text)
    try:
        meter = Meter()
        expression = compile_expression(text, meter)
    except ExpressionProblem:
        assert any(diagnostic.severity == ERROR for diagnostic in diagnostics)
        return
    root = {"type": "step_completed", "payload": payload, "metadata": {"user": "ada"}}

    def evaluate() -> None:
        try:
            expression.evaluate(root)
        except ExpressionFailed as failed:
            assert "ada" not in failed.reason

    meter.left = WORK_LIMIT
    assert steps(evaluate) <= FREE_STEPS + STEPS_PER_UNIT * (WORK_LIMIT - meter.left)


@SLOW
@given(ALLOWS, PAYLOADS)
def test_an_allow_permits_only_where_its_value_is_true_itself(text: str, payload: Any) -> None:
    try:
        allow = compile_allow(text)
    except ExpressionProblem:
        return
    root = {"claims": {"a": payload}, "run": {"id": RUN, "metadata": {}}, "request": {"params": {}}}
    try:
        value = compile_expression(text).evaluate(root)
    except ExpressionFailed:
        value = None
    reason = allow.refusal(root)
    assert allow.permits(root) is (reason is None)
    if reason is None:
        assert value is True
    elif reason == "the expression is not true":
        assert value is not True
    assert RUN not in (reason or "")


@SLOW
@given(
    when=st.none() | EXPRESSIONS,
    data=EXPRESSIONS | st.dictionaries(st.text(min_size=1, max_size=5), EXPRESSIONS, min_size=1, max_size=3),
    payload=st.sampled_from(["text", "json"]),
    on_error=st.sampled_from(["skip", "null"]),
    event=EVENTS,
)
def test_any_rule_makes_one_line_of_json_of_any_event_or_nothing(
    when: str | None, data: Any, payload: str, on_error: str, event: Event
) -> None:
    rule = {
        "name": "r",
        "events": ["*", "step_stream"],
        "when": when,
        "payload": payload,
        "data": data,
        "on_error": on_error,
    }
    stream = StreamConfig.model_validate(
        {"name": "chat", "path": "/chat/{workflowRunId}", "rules": [{k: v for k, v in rule.items() if v}]}
    )
    try:
        rules = Rules(stream)
    except ExpressionProblem:
        return
    message = rules.message(event)
    if message is not None:
        assert b"\n" not in message.data and b"\r" not in message.data
        json.loads(message.data)
