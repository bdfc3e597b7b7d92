"""Between steps: an end is published before the steps that began after it, in whatever order events come."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.core.events import STEP_CANCELLED, STEP_COMPLETED, STEP_FAILED, STEP_STARTED, Event
from proxy.core.observations import CoreStep, Kind, LiveEvent, PastState, PastTaskEvent, Status
from proxy.runs.reconcile.timing import CANCEL_WAIT, PARENT_WAIT
from tests.support.reconciler_world import World
from tests.support.scenario import (
    OTHER,
    RUN,
    STEP,
    at,
    completed,
    core,
    core_pair,
    past,
    past_pair,
    published,
    started,
    world,
)


def family(one: Status, two: Status) -> PastState:
    """A history in which the second step is the first one's child."""
    known = past_pair(one, two)
    return replace(known, steps=(replace(known.steps[0], children=("two",)), known.steps[1]))


def order(made: World) -> list[tuple[str, str | None]]:
    """The lifecycle events in order, without the run's own."""
    return [(i.type, i.step) for i in made.items if isinstance(i, Event) and i.step is not None]


IN_ORDER = [(STEP_STARTED, "one"), (STEP_COMPLETED, "one"), (STEP_STARTED, "two")]


def joined_before_the_child_began() -> World:
    parent_runs = core(Status.RUNNING, *core_pair(Status.RUNNING, Status.RUNNING, Status.RUNNING).steps[:1])
    first = PastState(RUN, Status.RUNNING, family(Status.RUNNING, Status.RUNNING).steps[:1])
    both = core_pair(Status.QUEUED, Status.RUNNING, Status.RUNNING)
    return world([(0, parent_runs), (1, both)], [(0, first)])


def test_a_child_received_before_its_parents_end_is_sent_after_it() -> None:
    made = joined_before_the_child_began()
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1.0)
    made.emit(one, started(OTHER, 1.0))
    made.until(1.1)
    assert order(made) == IN_ORDER[:1]
    made.emit(one, completed(1.1))
    made.until(1.3)
    assert order(made) == IN_ORDER


def test_a_child_waits_a_bounded_time_for_a_parents_end_that_does_not_come() -> None:
    made = joined_before_the_child_began()
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1.0)
    made.emit(one, started(OTHER, 1.0))
    made.until(1.0 + PARENT_WAIT + 0.01)
    assert order(made) == [(STEP_STARTED, "one"), (STEP_STARTED, "two")]


def test_a_cancellation_that_the_history_knows_as_a_schedule_timeout_is_a_failure_with_that_reason() -> None:
    timed_out = past(Status.FAILED, events=(PastTaskEvent("SCHEDULING_TIMED_OUT", at(1.0), 0),))
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.QUEUED)), (1.2, timed_out)])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1.0)
    made.emit(one, LiveEvent(RUN, Kind.CANCELLED, STEP, "", at(1.0), 0))
    made.until(1.5)
    ends = [i for i in made.items if isinstance(i, Event) and i.type in {STEP_FAILED, STEP_CANCELLED}]
    assert [(i.type, "scheduling timed out" in i.payload["message"]) for i in ends] == [(STEP_FAILED, True)]


def test_a_cancellation_is_sent_when_the_history_confirms_it_or_does_not_answer_in_time() -> None:
    cancelled = past(Status.CANCELLED, started_at=at(0.1))
    for answers, due_at in (([(1.2, cancelled)], 1.5), ([], 1.0 + CANCEL_WAIT + 0.1)):
        made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), *answers])
        one = made.open(ordered=False)
        made.emit(one, started())
        made.until(1.0)
        made.emit(one, LiveEvent(RUN, Kind.CANCELLED, STEP, "", at(1.0), 0))
        made.until(1.1)
        assert order(made) == [(STEP_STARTED, "one")]
        made.until(due_at)
        assert order(made) == [(STEP_STARTED, "one"), (STEP_CANCELLED, "one")]


def test_a_history_that_is_older_than_a_replay_is_waited_for() -> None:
    """The core state says that the run goes on, the history still has the results of before."""
    old, new = past(Status.COMPLETED, output={"old": 1}), past(Status.RUNNING, 1)
    made = world([(0, core(Status.RUNNING, CoreStep("one", STEP, Status.QUEUED)))], [(0, old), (0.2, new)])
    made.open(ordered=False)
    made.until(1.0)
    assert not published(made, STEP_COMPLETED)
