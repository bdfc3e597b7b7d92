"""Laws of every format, over generated runs: where a client joins does not change what it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.events import Event, GapCause, Reset, StepGap
from proxy.formats.machine import Machine, Refused, Sent, message_at
from proxy.formats.transcript import MAX_EDITIONS
from proxy.formats.wire import machine_of
from tests.support.formats import FACTS, AgUiMessages, Completion, UiMessage, chunk, event
from tests.support.property_settings import many

STEPS = ("left", "right", "third")
ENDS = ("completed", "failed", "cancelled")
Action = tuple[str, str, Any]

actions = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.sampled_from(STEPS), st.text("ab", max_size=3)),
        st.tuples(st.just("text"), st.sampled_from(STEPS), st.text("ab", min_size=1, max_size=3)),
        st.tuples(st.just("reasoning"), st.sampled_from(STEPS), st.text("xy", min_size=1, max_size=2)),
        st.tuples(st.just("retry"), st.sampled_from(STEPS), st.none()),
        st.tuples(st.just("end"), st.sampled_from(STEPS), st.sampled_from(ENDS)),
        st.tuples(st.just("gap"), st.sampled_from(STEPS), st.none()),
        st.tuples(st.just("call"), st.sampled_from(STEPS), st.sampled_from(["c1", "c2"])),
        st.tuples(st.just("output"), st.sampled_from(STEPS), st.sampled_from(["c1", "c2", "c3"])),
        st.tuples(st.just("data"), st.sampled_from(STEPS), st.integers(0, 9)),
        st.tuples(st.just("step"), st.sampled_from(STEPS), st.none()),
        st.tuples(st.just("metadata"), st.sampled_from(STEPS), st.integers(0, 9)),
        st.tuples(st.just("error"), st.sampled_from(STEPS), st.none()),
    ),
    max_size=20,
)  # fmt: skip


class World:
    """A run that obeys the order of delivery.md, written by one machine."""

    def __init__(self, machine: Machine, parts: frozenset[str]) -> None:
        self.machine = machine
        self.blocks: list[bytes] = []
        self._parts = parts
        self._attempts = dict.fromkeys(STEPS, 1)
        self._indexes = dict.fromkeys(STEPS, 0)
        self._ended: set[str] = set()

    def act(self, action: Action) -> None:
        what, step, value = action
        if step in self._ended:
            return
        attempt = self._attempts[step]
        if what == "retry":
            self._attempts[step] += 1
            self._send(event("step_retrying", step, attempt=attempt), None)
            self.blocks += self.machine.control(Reset(step, attempt + 1))
        elif what == "gap":
            self.blocks += self.machine.control(StepGap(GapCause.UPSTREAM, step, attempt, None))
        elif what == "end":
            self._ended.add(step)
            self._send(event(f"step_{value}", step, attempt=attempt), None)
        else:
            self._sent(what, step, value)

    def _sent(self, what: str, step: str, value: Any) -> None:
        attempt = self._attempts[step]
        self._indexes[step] += 1
        streamed = chunk(step, "", attempt=attempt, index=self._indexes[step])
        started = event("step_started", step)
        at_start = what == "data" and value > 4
        table: dict[str, tuple[Event, Sent]] = {
            "text": (streamed, Sent("text", value)),
            "reasoning": (streamed, Sent("reasoning", value)),
            "call": (streamed, Sent("tool-input", {"id": value, "name": "search", "input": {}})),
            "output": (started, Sent("tool-output", {"id": value, "output": 1})),
            "data": (started if at_start else streamed, Sent("data-plan", value)),
            "step": (started, Sent("step", step)),
            "metadata": (started, Sent("metadata", {"n": value})),
            "error": (started, Sent("error", "wrong")),
        }
        what_event, sent = table[what]
        self._send(what_event, sent if sent.part in self._parts else None)

    def _send(self, what: Event, sent: Sent | None) -> None:
        before = self.machine.log.place
        try:
            self.blocks += self.machine.message(what, sent)
        except Refused:
            assert self.machine.log.place == before

    def end(self, status: str) -> None:
        self.blocks += self.machine.end(status)


ALL = frozenset({"text", "reasoning", "tool-input", "tool-output", "data-plan", "metadata", "step", "error"})


def ui_message(blocks: list[bytes]) -> Any:
    message = UiMessage().read(blocks)
    assert message.finished
    assert message.done
    return message.shown, message.metadata, message.error


def ag_ui(blocks: list[bytes]) -> Any:
    reader = AgUiMessages().read(blocks)
    assert reader.ended is not None
    # what a chunk of a failed attempt said in an event of its own cannot be taken back
    custom = [value for name, value in reader.custom if name == "plan" and value > 4]
    return sorted(reader.messages.keys() - reader.void), sorted(reader.texts), reader.tools, custom


def completion(blocks: list[bytes]) -> Any:
    read = Completion().read(blocks)
    assert read.done
    return read.content, read.reasoning, read.error, read.reason


def plain(blocks: list[bytes]) -> Any:
    return b"".join(blocks)


FORMATS: list[tuple[str, bool, Callable[[list[bytes]], Any], frozenset[str]]] = [
    ("ai-sdk", False, ui_message, ALL),
    ("ai-sdk", True, ui_message, ALL),
    ("ag-ui", False, ag_ui, ALL),
    ("ag-ui", True, ag_ui, ALL),
    ("openai", True, completion, frozenset({"text", "reasoning", "error"})),
    ("text", True, plain, frozenset({"text"})),
]


def nothing(rule: str, event_type: str, reason: str) -> None:
    """A refusal is allowed."""


@many(400)
@given(actions, st.sampled_from(FORMATS), st.sampled_from(ENDS), st.data())
def test_a_client_reads_the_same_wherever_it_joins_resumes_or_falls_behind(
    given_actions: list[Action], form: tuple[str, bool, Any, frozenset[str]], status: str, data: st.DataObject
) -> None:
    name, hold, read, parts = form
    machine = machine_of(name, FACTS, hold=hold, failed=nothing)
    world = World(machine, parts)
    begin = machine.begin()
    joined = {0: message_at(machine, 0)}
    for action in given_actions:
        world.act(action)
        joined[machine.log.place] = message_at(machine, machine.log.place)
        assert len(world.blocks) == machine.log.place
    world.end(status)
    joined[machine.log.place] = message_at(machine, machine.log.place)
    blocks, last = world.blocks, machine.log.place
    assert len(blocks) == last
    whole = read([*begin, *blocks])

    place = data.draw(st.sampled_from(sorted(joined)), "joins at")
    opening = joined[place]
    assert opening is not None
    assert read([*opening, *blocks[place:]]) == whole

    after = data.draw(st.integers(0, last), "falls behind after")
    rest = machine.log.between(after, last)
    assert rest is not None
    assert read([*begin, *blocks[:after], *rest]) == whole

    again = message_at(machine, place)
    assert again == opening or (again is None and len(given_actions) > MAX_EDITIONS)
