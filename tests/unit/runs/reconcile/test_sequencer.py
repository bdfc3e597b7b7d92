"""The order of one step's items: which may be emitted now, and which wait."""

from __future__ import annotations

import pytest

from proxy.core.events import (
    STEP_COMPLETED,
    STEP_RETRYING,
    STEP_STARTED,
    STEP_STREAM,
    Event,
    GapCause,
    Item,
    Reset,
    StepGap,
)
from proxy.core.observations import LiveEvent
from proxy.runs.reconcile.emitter import Emitter
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.placement import Execution, Executions
from proxy.runs.reconcile.sequencer import MOST_RETRIES, Sequencer
from proxy.runs.reconcile.subscription_state import Pulse, ReceivedEnd, Selection, SubscriptionState
from proxy.runs.reconcile.timing import HOLE_WAIT, SETTLE
from tests.support.scenario import RUN, STEP, at, chunk


class Bench:
    """A sequencer with its evidence, and the items that it emitted."""

    def __init__(self) -> None:
        self.evidence = Evidence(STEP, 0.0)
        self.evidence.name = "one"
        self.evidence.started_live = True
        self.executions = Executions()
        self.emitter = Emitter(RUN)
        self.subscription = SubscriptionState(Selection.BY_METADATA, 0.0, Pulse())
        self.sequencer = Sequencer(
            self.evidence, self.executions, [self.subscription], self.emitter, lambda: SETTLE
        )
        self.items: list[Item] = []

    def execution(self, attempt: int | None, *chunks: LiveEvent) -> Execution:
        one = self.executions.begin(0.0)
        one.attempt = attempt
        self.hold(one, *chunks)
        return one

    def hold(self, one: Execution, *chunks: LiveEvent) -> None:
        for event in chunks:
            one.note(event.index or 0, event.at, 0.0)
            self.executions.hold(one, event)
            self.subscription.last_chunk[STEP, one.number] = one.last_index

    def advance(self, now: float, *, last: bool = False) -> list[str]:
        self.sequencer.advance(now, last=last)
        new = self.emitter.take()
        self.items += new
        return [_short(item) for item in new]

    def end(self, now: float, attempt: int = 1, *, received: bool = True) -> None:
        self.evidence.ended(Outcome(STEP_COMPLETED, attempt, {}, at(now), True, now, now))
        if received:
            self.subscription.ends[STEP, attempt] = ReceivedEnd(now, now + SETTLE)


def _short(item: Item) -> str:
    if isinstance(item, Event):
        return f"{item.payload}" if item.type == STEP_STREAM else f"{item.type} {item.attempt}"
    if isinstance(item, StepGap):
        return f"gap {item.cause.value} {item.attempt} {item.missed}"
    return f"reset {item.attempt}" if isinstance(item, Reset) else repr(item)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_sent_of_a_step_without_a_name(bench: Bench) -> None:
    bench.evidence.name = None
    bench.execution(1, chunk(0, 0))
    assert bench.advance(0.0) == []


def test_a_step_starts_once_and_its_chunks_come_by_index(bench: Bench) -> None:
    one = bench.execution(1, chunk(1, 0.1), chunk(0, 0))
    assert bench.advance(0.1) == [f"{STEP_STARTED} 1", "0@0", "1@0.1"]
    bench.hold(one, chunk(2, 0.2))
    assert bench.advance(0.2) == ["2@0.2"]


def test_a_start_that_only_a_state_shows_waits_for_the_subscriptions(bench: Bench) -> None:
    bench.evidence.started_live = False
    bench.evidence.emit_start_at = 0.25
    assert bench.advance(0.1) == []
    assert bench.sequencer.due == 0.25
    assert bench.advance(0.25) == [f"{STEP_STARTED} 1"]


@pytest.mark.parametrize("reason", ["live", "a chunk", "an end", "the run is over"])
def test_such_a_start_waits_no_longer_than_there_is_something_after_it(bench: Bench, reason: str) -> None:
    bench.evidence.started_live = reason == "live"
    bench.evidence.emit_start_at = 0.25
    if reason == "a chunk":
        bench.execution(1, chunk(0, 0))
    elif reason == "an end":
        bench.end(0.1)
    assert bench.advance(0.1, last=reason == "the run is over")[0] == f"{STEP_STARTED} 1"


def test_a_hole_is_waited_for_then_it_is_a_gap(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0), chunk(3, 0.3))
    assert bench.advance(0.0) == [f"{STEP_STARTED} 1", "0@0"]
    assert bench.sequencer.due == HOLE_WAIT
    assert bench.advance(HOLE_WAIT - 0.01) == []
    assert bench.advance(HOLE_WAIT) == ["gap upstream 1 2", "3@0.3"]


def test_a_hole_that_is_filled_is_no_gap_and_the_next_one_is_waited_for_as_long(bench: Bench) -> None:
    one = bench.execution(1, chunk(0, 0), chunk(2, 0.2), chunk(4, 0.4))
    bench.advance(0.0)
    bench.hold(one, chunk(1, 0.1))
    assert bench.advance(0.2) == ["1@0.1", "2@0.2"]
    assert bench.sequencer.due == pytest.approx(0.2 + HOLE_WAIT)
    bench.hold(one, chunk(3, 0.3))
    assert bench.advance(0.4) == ["3@0.3", "4@0.4"]


def test_what_was_sent_before_the_join_is_not_waited_for(bench: Bench) -> None:
    bench.evidence.joined_in = 1
    bench.execution(1, chunk(5, 0.5))
    assert bench.advance(0.0) == [f"{STEP_STARTED} 1", "gap joined_late 1 5", "5@0.5"]


def test_a_hole_after_the_join_is_waited_for_and_upstream(bench: Bench) -> None:
    bench.evidence.joined_in = 1
    bench.execution(1, chunk(5, 0.5), chunk(7, 0.7))
    bench.advance(0.0)
    assert bench.advance(HOLE_WAIT) == ["gap upstream 1 1", "7@0.7"]


def test_the_first_chunks_of_an_attempt_after_the_join_are_waited_for(bench: Bench) -> None:
    bench.evidence.joined_in = 1
    bench.evidence.attempt_failed(1, "E: no", at(0), 0.0, live=False)
    bench.evidence.attempt_began(2, 0.0)
    bench.execution(2, chunk(1, 0.1))
    assert bench.advance(1.0) == [
        f"{STEP_STARTED} 1",
        "gap joined_late 1 None",
        f"{STEP_RETRYING} 1",
        "reset 2",
    ]
    assert bench.advance(1.0 + HOLE_WAIT) == ["gap upstream 2 1", "1@0.1"]


def test_too_large_is_the_cause_of_the_next_gap_only(bench: Bench) -> None:
    bench.sequencer.too_large = True
    bench.execution(1, chunk(0, 0), chunk(2, 0.2), chunk(4, 0.4))
    bench.advance(0.0)
    assert bench.advance(HOLE_WAIT) == ["gap too_large 1 1", "2@0.2"]
    assert bench.advance(2 * HOLE_WAIT) == ["gap upstream 1 1", "4@0.4"]


def test_an_end_waits_for_its_hole_and_for_its_proof(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0), chunk(2, 0.2))
    bench.advance(0.0)
    bench.end(0.1)
    assert bench.advance(0.2) == []
    assert bench.advance(HOLE_WAIT) == ["gap upstream 1 1", "2@0.2", f"{STEP_COMPLETED} 1"]
    assert bench.sequencer.ended


def test_an_end_waits_until_it_may_be_emitted(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0))
    bench.end(0.0)
    assert bench.evidence.end is not None
    bench.evidence.end.emit_at = 0.5
    assert bench.advance(0.4) == [f"{STEP_STARTED} 1", "0@0"]
    assert bench.sequencer.due == 0.5
    assert bench.advance(0.5) == [f"{STEP_COMPLETED} 1"]


def test_an_end_waits_for_chunks_whose_attempt_is_not_known(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0))
    unknown = bench.execution(None, chunk(0, 1))
    bench.end(1.0)
    assert bench.advance(2.0) == [f"{STEP_STARTED} 1", "0@0"]
    unknown.attempt = 1
    bench.executions.drop(unknown)
    assert bench.advance(2.0) == [f"{STEP_COMPLETED} 1"]


def test_chunks_of_no_attempt_after_those_of_the_attempt_are_a_gap(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0))
    unknown = bench.execution(None, chunk(0, 1))
    bench.end(1.0)
    bench.advance(2.0)
    unknown.attempt = 0  # neither an end nor a state names the attempt that sent it
    bench.executions.drop(unknown)
    assert bench.advance(2.0) == ["gap upstream 1 None", f"{STEP_COMPLETED} 1"]


def test_nothing_waits_once_the_run_is_over(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0), chunk(2, 0.2))
    bench.end(0.0, received=False)
    assert bench.advance(0.0, last=True) == [
        f"{STEP_STARTED} 1",
        "0@0",
        "gap upstream 1 1",
        "2@0.2",
        "gap upstream 1 None",
        f"{STEP_COMPLETED} 1",
    ]


def test_an_end_of_a_step_that_never_ran_needs_no_proof(bench: Bench) -> None:
    bench.end(0.0, received=False)
    assert bench.evidence.end is not None
    bench.evidence.end.ran = False
    assert bench.advance(0.0) == [f"{STEP_STARTED} 1", f"{STEP_COMPLETED} 1"]


def test_a_proof_is_void_where_too_much_waited(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0))
    bench.executions.overflowed = True
    bench.end(0.0)
    assert bench.advance(1.0)[-2:] == ["gap upstream 1 None", f"{STEP_COMPLETED} 1"]


def test_an_attempt_that_another_one_followed_is_left_with_its_retrying_and_a_reset(bench: Bench) -> None:
    bench.execution(1, chunk(0, 0))
    bench.subscription.ends[STEP, 1] = ReceivedEnd(0.1, 0.1 + SETTLE)
    bench.evidence.attempt_failed(1, "E: no\nTraceback", at(0.1), 0.1, live=True)
    bench.evidence.attempt_began(2, 0.2)
    bench.execution(2, chunk(0, 0.2))
    assert bench.advance(0.1) == [f"{STEP_STARTED} 1", "0@0"]
    assert bench.advance(0.2) == [f"{STEP_RETRYING} 1", "reset 2", "0@0.2"]


def test_what_waits_of_an_attempt_that_was_left_is_dropped(bench: Bench) -> None:
    first = bench.execution(1)
    bench.sequencer.too_large = bench.executions.overflowed = True
    bench.evidence.attempt_began(2, 0.0)
    bench.advance(2.0)
    assert first.held == {}
    state = bench.sequencer
    assert (state.too_large, state.gap_emitted) == (False, False)
    assert not bench.executions.overflowed


def test_a_jump_of_many_attempts_is_one_step(bench: Bench) -> None:
    bench.evidence.attempt_began(MOST_RETRIES + 3, 0.0)
    emitted = bench.advance(10.0, last=True)
    assert emitted == [
        f"{STEP_STARTED} 1",
        "gap upstream 1 None",
        f"{STEP_RETRYING} 1",
        f"reset {MOST_RETRIES + 3}",
    ]


def test_a_step_flows_only_in_its_running_attempt(bench: Bench) -> None:
    one = bench.execution(1, chunk(0, 0))
    bench.advance(0.0)
    assert bench.sequencer.flowing is one
    bench.evidence.attempt_failed(1, "E", at(0.1), 0.1, live=True)
    bench.advance(0.1)
    assert bench.sequencer.flowing is None
    bench.end(0.2)
    bench.advance(1.0)
    assert bench.sequencer.flowing is None


def test_nothing_is_sent_after_the_end(bench: Bench) -> None:
    one = bench.execution(1, chunk(0, 0))
    bench.end(0.0)
    bench.advance(1.0)
    bench.hold(one, chunk(1, 0.5))
    bench.evidence.attempt_began(2, 2.0)
    assert bench.advance(3.0, last=True) == []
    assert GapCause.UPSTREAM not in [item.cause for item in bench.items if isinstance(item, StepGap)]
