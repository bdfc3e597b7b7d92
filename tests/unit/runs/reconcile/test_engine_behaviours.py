"""What a real engine does otherwise than one expects, each behaviour on its own: events in, items out."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from proxy.core.events import (
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_RETRYING,
    STEP_SKIPPED,
    End,
    GapCause,
    Reset,
    StepGap,
)
from proxy.core.observations import CoreStep, Kind, LiveEvent, PastState, PastStep, PastTaskEvent, Status
from proxy.runs.reconcile.timing import RERUN_WAIT, SETTLE
from tests.support.reconciler_world import World, legal
from tests.support.scenario import (
    OTHER,
    RUN,
    STEP,
    at,
    chunk,
    chunks,
    completed,
    core,
    core_pair,
    failed,
    gaps,
    past,
    published,
    run_event,
    started,
    world,
)


def attempts(made: World) -> list[int | None]:
    return [attempt for attempt, _ in published(made, STEP_RETRYING)]


# -- 1: an end overtakes the last chunks --


def test_an_end_that_overtakes_the_last_chunks_loses_none_by_metadata() -> None:
    made = world(
        [(0, core(Status.RUNNING)), (1.1, core(Status.COMPLETED))],
        [(0, past(Status.RUNNING)), (1.1, past(Status.COMPLETED))],
    )
    one = made.open(ordered=False)
    made.emit(one, started(), *[chunk(n, n / 20) for n in range(18)])
    made.until(1.0)
    made.emit(one, completed(1.0))
    made.until(1.0 + SETTLE * 0.9)
    made.emit(one, chunk(18, 0.98), chunk(19, 0.99))
    made.until(1.0 + 3 * SETTLE)
    made.emit(one, run_event(Kind.COMPLETED, 1.01))
    made.until(3)
    assert len(chunks(made)) == 20
    assert gaps(made) == []
    assert isinstance(made.items[-1], End)


def test_an_end_that_overtakes_the_last_chunks_is_a_gap_by_run_id() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    one = made.open(ordered=True)
    made.emit(one, started(), *[chunk(n, n / 20) for n in range(18)])
    made.until(1.0)
    made.emit(one, completed(1.0), run_event(Kind.COMPLETED, 1.01))
    made.close(one)
    made.until(3)
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, None)]


# -- 2: retryCount counts replays and lost workers, too --


def test_a_failure_after_a_lost_worker_is_not_final_by_the_number_of_retries() -> None:
    lost = PastTaskEvent("REASSIGNED", at(1), 1)
    made = world(
        [(0, core(Status.RUNNING))],
        [
            (0, past(Status.RUNNING, retries=1)),
            (1, past(Status.RUNNING, 1, retries=1, events=(lost,), started_at=at(1))),
            (3, past(Status.RUNNING, 2, retries=1, events=(lost,), started_at=at(3))),
        ],
    )
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(1.2)
    made.emit(one, chunk(0, 1.2))
    made.until(2.9)
    made.emit(one, failed(2.9, retry=1))
    made.until(3.3)
    made.emit(one, chunk(0, 3.3), completed(3.5, retry=2))
    made.until(5)
    legal(made.items)
    assert published(made, STEP_FAILED) == []
    assert attempts(made) == [1, 2]
    assert chunks(made, 3) == ["0@3.3"]
    assert [attempt for attempt, _ in published(made, STEP_COMPLETED)] == [3]


def test_a_failure_is_final_where_every_attempt_failed_by_itself() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=1))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1)
    made.emit(one, failed(1))
    made.until(2)
    made.emit(one, failed(2, retry=1))
    made.until(2 + 2 * SETTLE)
    assert [attempt for attempt, _ in published(made, STEP_FAILED)] == [2]


# -- 3: silence of many seconds within a step --


@pytest.mark.parametrize("by_id", [False, True], ids=["by metadata", "by run id"])
def test_a_step_that_is_silent_for_a_minute_streams_on(by_id: bool) -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0)))])
    one = made.open(ordered=by_id)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(60)
    made.emit(one, chunk(1, 60))
    assert chunks(made) == ["0@0.1", "1@60"]
    assert gaps(made) == []


def test_a_late_joiner_of_a_silent_step_gets_the_gap_with_the_chunks_not_before_them() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0)))])
    one = made.open(ordered=False)
    made.until(30)
    assert gaps(made) == []
    made.emit(one, chunk(7, 30))
    made.until(31)
    assert gaps(made) == [StepGap(GapCause.JOINED_LATE, "one", 1, 7)]
    assert chunks(made) == ["7@30"]


# -- 4: a timed-out attempt streams on beside the next --


def test_a_zombies_chunks_are_void_and_the_next_attempts_are_sent() -> None:
    timed_out = PastTaskEvent("TIMED_OUT", at(3), 0, "Task exceeded timeout of 3s")
    made = world(
        [(0, core(Status.RUNNING))],
        [
            (0, past(Status.RUNNING, started_at=at(0))),
            (3, past(Status.RUNNING, 1, started_at=at(3.05), events=(timed_out,))),
        ],
    )
    one = made.open(ordered=False)
    made.emit(one, started())
    for n in range(6):
        made.until(n / 2 + 0.01)
        made.emit(one, chunk(n, n / 2))
    for event in (chunk(6, 3.0), chunk(0, 3.1), chunk(7, 3.2), chunk(1, 3.3), chunk(8, 3.6), chunk(2, 3.8)):
        made.until(event.at / 1e9 - at(0) / 1e9 if event.at else 0)
        made.emit(one, event)
    made.until(4.5)
    made.emit(one, completed(4.5, retry=1))
    made.until(6)
    legal(made.items)
    first = [f"{n}@{n / 2:g}" for n in range(6)]
    assert chunks(made, 1) == [*first, "6@3", "7@3.2"], "until the history has counted the next attempt"
    assert chunks(made, 2) == ["0@3.1", "1@3.3", "2@3.8"]
    assert gaps(made) == []


# -- 5: an evicted durable task runs again from the top, as the same attempt --


@pytest.mark.parametrize("known", [True, False], ids=["a state says evicted", "no state says so"])
def test_an_evicted_task_that_runs_again_goes_on_where_it_stopped(known: bool) -> None:
    evicted = [(1.0, past(Status.EVICTED))] if known else []
    made = world(
        [(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), *evicted, (2, past(Status.RUNNING))]
    )
    one = made.open(ordered=False)
    made.emit(one, started(), *[chunk(n, 0.1 + n / 10) for n in range(5)])
    if known:
        made.until(1.5)
        made.reconciler.history_poll.want(1.5)
    made.until(3)
    for n in range(10):
        made.until(3 + n / 10)
        made.emit(one, chunk(n, 3 + n / 10))
    made.until(3 + 2 * RERUN_WAIT)
    made.emit(one, completed(made.now))
    made.until(made.now + 1)
    legal(made.items)
    assert [text.partition("@")[0] for text in chunks(made, 1)] == [str(n) for n in range(10)]
    assert attempts(made) == []
    assert gaps(made) == []


# -- 6: chunks lag by seconds --


def test_an_end_waits_for_chunks_as_far_as_they_lag() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0)))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.lag_of_chunks = 1.0
    made.until(1)
    made.emit(one, completed(1))
    made.until(1.9)
    assert published(made, STEP_COMPLETED) == []
    made.emit(one, *[chunk(n, n / 10) for n in range(5)])
    made.until(6)
    assert len(chunks(made)) == 5
    assert gaps(made) == []


def test_where_the_lag_has_no_bound_the_end_comes_with_one_gap() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0)))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.lag_of_chunks = 50.0
    made.until(1)
    made.emit(one, completed(1))
    made.until(10)
    assert published(made, STEP_COMPLETED)
    made.emit(one, *[chunk(n, n / 10) for n in range(5)])
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, None)]


# -- 7: steps that never ran --


@pytest.mark.parametrize(
    ("final", "core_status", "type_"),
    [
        pytest.param(Status.CANCELLED, Status.CANCELLED, STEP_CANCELLED, id="cancelled before it ran"),
        pytest.param(Status.FAILED, Status.CANCELLED, STEP_FAILED, id="scheduling timed out"),
    ],
)
def test_a_step_that_never_ran_has_no_gap(final: Status, core_status: Status, type_: str) -> None:
    never = PastStep("two", OTHER, final, 0, 2, created_at=at(1), finished_at=at(2))
    one = past(Status.FAILED, 0, retries=0, error="E: no", started_at=at(0), finished_at=at(1)).steps[0]
    history = PastState(RUN, Status.FAILED, (one, never))
    made = world(
        [(0, core(Status.RUNNING)), (2.2, core_pair(Status.FAILED, core_status, Status.FAILED))],
        [(0, past(Status.RUNNING, retries=0, started_at=at(0))), (2.2, history)],
    )
    sub = made.open(ordered=False)
    made.emit(sub, started(), chunk(0, 0.1))
    made.until(1)
    made.emit(sub, failed(1))
    made.until(2)
    made.emit(sub, run_event(Kind.FAILED, 2))
    made.until(20)
    legal(made.items)
    assert len(published(made, type_)) == (2 if type_ == STEP_FAILED else 1)
    assert gaps(made) == []
    assert isinstance(made.items[-1], End)


# -- 8: a step whose own output is {"skipped": true} --


def past_of(*types: str) -> PastState:
    events = tuple(PastTaskEvent(type_, at(n), 0) for n, type_ in enumerate(types))
    return past(Status.COMPLETED, output={"skipped": True}, events=events, started_at=at(0))


def done_with_mark() -> list[tuple[float, object]]:
    step = CoreStep("one", STEP, Status.COMPLETED, '{"skipped": true}')
    return [(0, core(Status.COMPLETED, step))]


def test_an_output_that_looks_like_the_mark_of_a_skipped_step_is_an_output() -> None:
    made = world(done_with_mark(), [(0, past_of("QUEUED", "STARTED", "FINISHED"))])  # type: ignore[arg-type]
    made.until(5)
    assert published(made, STEP_COMPLETED) == [(1, {"skipped": True})]


def test_a_step_that_the_task_events_call_skipped_is_skipped() -> None:
    made = world(done_with_mark(), [(0, past_of("SKIPPED"))])  # type: ignore[arg-type]
    made.until(5)
    assert published(made, STEP_SKIPPED) == [(1, None)]


def test_a_live_and_a_late_client_get_the_same_events_of_such_an_output() -> None:
    made = world(
        [(0, core(Status.RUNNING)), (1.1, done_with_mark()[0][1])],  # type: ignore[list-item]
        [(0, past(Status.RUNNING)), (1.1, past_of("QUEUED", "STARTED", "FINISHED"))],
    )
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1)
    made.emit(one, completed(1, output='{"skipped": true}'), run_event(Kind.COMPLETED, 1))
    made.until(5)
    assert published(made, STEP_COMPLETED) == [(1, {"skipped": True})]
    assert published(made, STEP_SKIPPED) == []


# -- 9: a schedule timeout reads CANCELLED in the core and FAILED in the history --


def test_a_schedule_timeout_is_one_failure_with_its_reason() -> None:
    events = (PastTaskEvent("SCHEDULING_TIMED_OUT", at(5), 0),)
    made = world(
        [(0, core(Status.QUEUED)), (5, core(Status.CANCELLED))],
        [(0, past(Status.QUEUED)), (5, past(Status.FAILED, events=events, finished_at=at(5), retries=0))],
    )
    one = made.open(ordered=False)
    made.until(5)
    made.emit(one, run_event(Kind.CANCELLED, 5))
    made.until(20)
    ((attempt, payload),) = published(made, STEP_FAILED)
    assert attempt == 1
    assert "scheduling timed out" in json.dumps(payload)
    assert published(made, STEP_CANCELLED) == []
    assert gaps(made) == [], "it never ran"


# -- 10: a FAILED that comes late, after the next attempt's chunks --


@pytest.mark.parametrize("by_history", [True, False], ids=["the history counts first", "FAILED comes first"])
def test_the_next_attempts_chunks_are_not_sent_as_the_failed_ones(by_history: bool) -> None:
    later = (1.0, past(Status.RUNNING, 1, started_at=at(1.05)))
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0))), later])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(1.1)
    made.emit(one, chunk(0, 1.1), chunk(1, 1.15))
    if by_history:
        made.until(1.6)
    made.emit(one, failed(1.0, text="E: " + "x" * 200_000))
    made.until(2)
    made.emit(one, chunk(2, 2.0), completed(2.1, retry=1))
    made.until(3)
    legal(made.items)
    assert chunks(made, 1) == ["0@0.1", "1@0.2"]
    assert chunks(made, 2) == ["0@1.1", "1@1.15", "2@2"]
    assert [item.attempt for item in made.items if isinstance(item, Reset)] == [2]


# -- 11: many chunks lost at once --


def test_many_lost_chunks_are_one_gap() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0)))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(1)
    made.emit(one, chunk(20, 1.0))
    made.until(2)
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, 19)]


def test_many_chunks_that_come_after_the_end_are_one_gap() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, started_at=at(0)))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(1)
    made.emit(one, completed(1))
    made.until(2)
    made.emit(one, *[chunk(n, 0.9) for n in range(1, 20)])
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, None)]


# -- hostile events --


def test_an_output_nested_500_deep_is_sent_and_the_run_ends() -> None:
    deep = "[" * 500 + "]" * 500
    made = world(
        [
            (0, core(Status.RUNNING)),
            (1.1, core(Status.COMPLETED, CoreStep("one", STEP, Status.COMPLETED, deep))),
        ],
        [(0, past(Status.RUNNING))],
    )
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1)
    made.emit(one, completed(1, output=deep), run_event(Kind.COMPLETED, 1))
    made.until(5)
    assert len(published(made, STEP_COMPLETED)) == 1
    assert isinstance(made.items[-1], End)


@pytest.mark.parametrize("retry", [100_000, 2**31 - 1])
def test_a_jump_in_attempts_is_one_retrying_and_one_reset(retry: int) -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=None))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1)
    made.emit(one, failed(1, retry=retry), structs.replace(completed(2), retry_count=retry))
    made.until(3)
    assert len(made.items) < 20
    assert [item.attempt for item in made.items if isinstance(item, Reset)][-1] == retry + 1
    assert len(made.reconciler._steps.get_or_add(STEP, made.now).evidence.failures) < 10


def test_an_event_of_another_run_is_dropped_and_counted() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    one = made.open(ordered=True)
    made.emit(one, started())
    made.until(1)
    before = list(made.items)
    made.emit(
        one, structs.replace(chunk(0, 1), run_id="another"), structs.replace(completed(1), run_id="another")
    )
    made.until(2)
    assert made.items == before
    assert made.reconciler.foreign == 2


def test_chunks_without_an_index_are_numbered_as_they_come() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1)
    made.emit(one, *[LiveEvent(RUN, Kind.STREAM, STEP, text, at(1)) for text in ("a", "b", "c")])
    made.until(2)
    assert chunks(made) == ["a", "b", "c"]
    assert gaps(made) == []
