"""Runs the tests that stand beside the rules: events in, the expected messages, a result with reasons.

Data is compared as JSON values: the order of an object's fields does not matter, 1 is not true, 1 equals 1.0.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from config.expressions.api import ExpressionProblem, compile_allow
from config.model.files import StreamConfig, TeamConfig, TestConfig
from config.problems import ERROR, Place, Problem
from proxy.core import json_codec
from proxy.core.events import STEP_STREAM, End, Event, Item, Reset
from proxy.rules.dry_run import UNSENT, DryRun, Made
from proxy.rules.ruleset import Rules, RuleVerdict
from proxy.rules.sample_event import RUN_ID, GivenProblem, event_of

NOTHING: Final = "nothing"
ALLOWED: Final = "allowed"


class TestResult(Struct, frozen=True):
    """The result of one test."""

    __test__ = False  # no test itself, whatever pytest makes of the name

    name: str
    stream: str
    passed: bool
    problem: str | None = None  # why it could not be run
    expected: str = NOTHING
    got: str = NOTHING
    verdicts: tuple[RuleVerdict, ...] = ()  # of every event that was given, in order

    @property
    def decided(self) -> str | None:
        """The rule that decided the first event that any rule matched; None where none matched."""
        return next((verdict.rule for verdict in self.verdicts if verdict.matched), None)

    @property
    def reached(self) -> frozenset[str]:
        """The rules that decided an event."""
        return frozenset(verdict.rule for verdict in self.verdicts if verdict.matched)

    @property
    def diff(self) -> list[str]:
        """What differs, line by line: ``- `` expected, ``+ `` got."""
        lines = difflib.ndiff(self.expected.splitlines(), self.got.splitlines())
        return [line.rstrip("\n") for line in lines if not line.startswith("? ")]


Recordings = Callable[[str], Sequence[Item]]
"""The items of a recorded run, by its file; raises GivenProblem."""


def _no_recordings(file: str) -> Sequence[Item]:
    raise GivenProblem("recordings cannot be read here", "write the events themselves")


def run_tests(team: TeamConfig, recordings: Recordings = _no_recordings) -> list[TestResult]:
    """The results of all tests of a team, in order; `recordings` reads those that tests name."""
    rules: dict[str, Rules] = {}
    return [_run(test, team, rules, recordings) for test in team.tests]


def failures(
    team: TeamConfig, places: Sequence[Place] = (), recordings: Recordings = _no_recordings
) -> tuple[Problem, ...]:
    """The team's failing tests as problems, for a reload; without any payload.

    `places` says where each test stands in its file; a team that came from no file has none.
    """
    known = places or ((f"tests of {team.name}", 1, 1),) * len(team.tests)
    return tuple(
        Problem(
            *place,
            ERROR,
            "test-failed",
            f"the test `{result.name}` of stream `{result.stream}` {_summary(result)}",
            "run stream-proxy test to see what differs",
        )
        for result, place in zip(run_tests(team, recordings), known, strict=True)
        if not result.passed
    )


def unreached(team: TeamConfig, results: Iterable[TestResult]) -> list[tuple[str, str]]:
    """(stream, rule) of every rule that decided an event of no test."""
    reached = {(result.stream, rule) for result in results for rule in result.reached}
    return [
        (stream.name, rule.name)
        for stream in team.streams.values()
        for rule in stream.rules
        if (stream.name, rule.name) not in reached
    ]


def _summary(result: TestResult) -> str:
    if result.problem is not None:
        return f"cannot be run: {result.problem}"
    if ALLOWED in (result.expected, result.got):
        return f"expected that the client is {result.expected}, and it is {result.got}"
    if NOTHING in (result.expected, result.got):
        return f"expected {_kind(result.expected)} and got {_kind(result.got)}"
    return "got another message than it expected"


def _kind(text: str) -> str:
    return text if text == NOTHING else "a message"


def _run(
    test: TestConfig, team: TeamConfig, compiled: dict[str, Rules], recordings: Recordings
) -> TestResult:
    stream = team.streams.get(test.stream)
    if stream is None:
        names = ", ".join(team.streams) or "none"
        problem = f"there is no stream `{test.stream}` (there are: {names})"
        return TestResult(test.name, test.stream, False, problem)
    if test.allowed is not None:
        return _run_allow(test, stream, test.allowed)
    try:
        if test.stream not in compiled:
            compiled[test.stream] = Rules(stream)
        items = _events(test) if test.recording is None else recordings(test.recording)
    except GivenProblem as wrong:
        return TestResult(test.name, test.stream, False, f"given: {wrong.message} ({wrong.hint})")
    except ExpressionProblem as wrong:
        return TestResult(test.name, test.stream, False, f"an expression cannot be run: {wrong.message}")
    # A single event is what a rule makes of it; only a sequence has chunks to compare an output with.
    controls = stream.format == "sse" and stream.control == "named"
    run = DryRun(compiled[test.stream], single=len(items) == 1, controls=controls)
    made = [each for item in items for each in run.take(item)] + run.finish()
    got = [message for each in made if (message := as_message(each)) is not None]
    expected = [
        {"event": message.get("event"), "data": message.get("data")}
        | ({"as": message["as"]} if message.get("as") is not None else {})
        for message in test.expected_messages
    ]
    shown = _shown(expected), _shown(got)
    every = tuple(verdict for each in made for verdict in each.verdicts)
    return TestResult(test.name, test.stream, _as_expected(expected, got), None, *shown, every)


def _run_allow(test: TestConfig, stream: StreamConfig, allowed: bool) -> TestResult:
    """Whether `allow` lets a client read a run; what the test does not give is as for any client."""
    refusal: str | None = None
    if stream.allow is not None:
        root = {
            "claims": test.claims or {},
            "run": {"id": RUN_ID, "metadata": {}, **(test.run or {})},
            "request": {"params": {}, "origin": None, **(test.request or {})},
        }
        try:
            refusal = compile_allow(stream.allow).refusal(root)
        except ExpressionProblem as wrong:
            problem = f"an expression cannot be run: {wrong.message}"
            return TestResult(test.name, test.stream, False, problem)
    got = ALLOWED if refusal is None else f"refused: {refusal}"
    return TestResult(
        test.name, test.stream, allowed == (refusal is None), None, ALLOWED if allowed else "refused", got
    )


def _events(test: TestConfig) -> list[Event]:
    """The events of a test, chunks without an index numbered per step and attempt; raises GivenProblem."""
    events: list[Event] = []
    counts: Counter[tuple[str | None, int | None]] = Counter()
    for given in test.given_events:
        event = event_of(given)
        key = (event.step, event.attempt)
        if event.type == STEP_STREAM and "index" not in given:
            event = event_of({**given, "index": counts[key]})
        counts[key] += event.type == STEP_STREAM
        events.append(event)
    return events


def as_message(made: Made) -> dict[str, Any] | None:
    """What is sent, as a test expects it; None where nothing is.

    The event is None for a message without a name; `as` is there for a stream of a chat protocol.
    """
    item, message = made.item, made.message
    if made.cause in UNSENT:
        return None
    if isinstance(item, End):
        return {"event": "stream.end", "data": {"status": item.status}}
    if not isinstance(item, Event):
        return {"event": "stream.reset" if isinstance(item, Reset) else "stream.gap", "data": item.data}
    if message is None:
        return None
    found = {"event": message.event, "data": json_codec.decode(message.data.decode())}
    return found if message.part is None else {**found, "as": message.part}


def _as_expected(expected: Sequence[dict[str, Any]], got: Sequence[dict[str, Any]]) -> bool:
    """Whether the messages are equal; `as` counts where it is expected."""
    if len(expected) != len(got):
        return False
    return all(
        same(one, {name: value for name, value in other.items() if name != "as" or "as" in one})
        for one, other in zip(expected, got, strict=True)
    )


def same(one: Any, other: Any) -> bool:
    """Equal as JSON values."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _shown(messages: Sequence[dict[str, Any]]) -> str:
    """Messages as lines, for the diff."""
    lines: list[str] = []
    for message in messages:
        if message["event"] is not None:
            lines.append(f"event: {message['event']}")
        if "as" in message:
            lines.append(f"as: {message['as']}")
        data = json.dumps(message["data"], indent=2, ensure_ascii=False, sort_keys=True)
        lines.append(f"data: {data}")
    return "\n".join(lines) or NOTHING
