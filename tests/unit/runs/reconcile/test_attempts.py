"""What a history doubts: an attempt that a chunk's time denies, an end between a replay's steps, silence."""

from __future__ import annotations

from dataclasses import replace

from proxy.core.events import (
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_RETRYING,
    STEP_STREAM,
    End,
    Event,
    GapCause,
    Reset,
    StepGap,
)
from proxy.core.observations import (
    CoreState,
    CoreStep,
    Kind,
    LiveEvent,
    PastState,
    PastStep,
    PastTaskEvent,
    Status,
)
from proxy.runs.reconcile.reconciler import History
from tests.support.playing import World, legal

RUN, STEP, OTHER = "run", "a", "b"


def clock(t: float) -> str:
    return f"2026-01-01T00:00:{t:09.6f}Z"


def chunk(index: int, t: float, text: str = "") -> LiveEvent:
    return LiveEvent(RUN, Kind.STREAM, STEP, text or f"{index}@{t:g}", clock(t), None, index)


def started(step: str = STEP) -> LiveEvent:
    return LiveEvent(RUN, Kind.STARTED, step, "", clock(0), 0)


def core(status: Status, *steps: CoreStep) -> CoreState:
    done = status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    return CoreState(RUN, status, done, steps or (CoreStep("one", STEP, status),))


def past(status: Status, retry: int = 0, **more: object) -> PastState:
    # type: ignore[arg-type]
    step = replace(PastStep("one", STEP, status, retry, 2, created_at=clock(0)), **more)
    return PastState(RUN, status, (step,))


def world(cores: list[tuple[float, CoreState]], pasts: list[tuple[float, PastState]], **more: bool) -> World:
    def core_at(t: float) -> CoreState | None:
        return next((state for at, state in reversed(cores) if at <= t), None)

    def past_at(t: float) -> PastState | None:
        return next((state for at, state in reversed(pasts) if at <= t), None)

    made = World(History(RUN, has_past=bool(pasts)), core_at, past_at, **more)  # type: ignore[arg-type]
    made.start()
    return made


def told(made: World, *types: str) -> list[tuple[int | None, object]]:
    return [(i.attempt, i.payload) for i in made.items if isinstance(i, Event) and i.type in types]


def test_chunks_that_the_engine_held_back_are_not_taken_for_the_next_attempts() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1, past(Status.RUNNING, 1))])
    line = made.open(ordered=True)
    for event in (started(), chunk(0, 0.1), chunk(1, 0.2)):
        made.tell(line, event)
    made.until(0.5)
    slow = made.open(ordered=True)
    made.until(1.2)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "E: no", clock(1), 0))
    made.until(1.5)
    for event in (chunk(0, 1.6), chunk(1, 1.7)):
        made.tell(line, event)
    made.tell(slow, chunk(0, 1.6))
    for event in (
        chunk(2, 0.3),
        chunk(3, 0.4),
    ):  # of attempt 1, five seconds late on a line that knows no attempt
        made.tell(slow, event)
    made.tell(line, chunk(2, 1.8))
    made.until(3)
    legal(made.items)
    assert [text for attempt, text in told(made, STEP_STREAM) if attempt == 2] == ["0@1.6", "1@1.7", "2@1.8"]


def test_where_indices_begin_again_in_limbo_a_later_attempt_begins() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.QUEUED))])
    line = made.open(ordered=True)
    made.until(0.5)
    for event in (chunk(0, 1.0), chunk(1, 1.01), chunk(0, 1.5), chunk(1, 1.51)):
        made.tell(line, event)
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1.6), 1))
    assert told(made, STEP_STREAM) == [(1, "0@1"), (1, "1@1.01"), (2, "0@1.5"), (2, "1@1.51")]


def test_a_chunk_that_the_engine_cannot_tell_is_announced_however_many_lines_are_left() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first, second = made.open(ordered=True), made.open(ordered=False)
    for line in (first, second):
        for event in (started(), chunk(0, 0.1), chunk(1, 0.2)):
            made.tell(line, event)
    made.history.lost_chunk(made.now)  # chunk 2: it ends one line, then the other, and each is replaced
    made.close(first)
    third = made.open(ordered=True)
    made.history.lost_chunk(made.now)
    made.close(second)
    made.tell(third, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1), 0))
    made.until(3)
    assert StepGap(GapCause.UPSTREAM, "one", 1, None) in made.items


def test_lines_that_break_together_and_are_each_replaced_in_time_have_missed_what_came_between() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first, second = made.open(ordered=True), made.open(ordered=False)
    for line in (first, second):
        for event in (started(), chunk(0, 0.1)):
            made.tell(line, event)
    made.close(first)
    third = made.open(ordered=True)
    made.close(second, None)
    made.tell(third, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1), 0))
    made.until(3)
    assert StepGap(GapCause.UPSTREAM, "one", 1, None) in made.items


def test_a_line_given_up_for_one_that_does_not_tell_a_step_yet_has_missed_what_it_would_have() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    line = made.open(ordered=True)
    for event in (started(), chunk(0, 0.1)):
        made.tell(line, event)
    fresh = made.open(ordered=True)
    made.close(line, None)
    made.tell(fresh, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1), 0))
    made.until(3)
    assert StepGap(GapCause.UPSTREAM, "one", 1, None) in made.items


def test_a_line_that_holds_a_second_attempts_chunks_does_not_stand_in_for_one_that_told_them() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1, past(Status.RUNNING, 1))])
    holding, bridge = made.open(ordered=True), made.open(ordered=False)
    for line in (holding, bridge):
        for event in (started(), chunk(0, 0.1)):
            made.tell(line, event)
    made.until(1)
    for line in (holding, bridge):
        made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "E: no", clock(1), 0))
    made.until(2)
    made.tell(bridge, chunk(0, 2))
    made.close(bridge, None)
    made.tell(holding, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(3), 1))
    made.until(4)
    assert told(made, STEP_STREAM)[-1] == (2, "0@2")
    assert StepGap(GapCause.UPSTREAM, "one", 2, None) in made.items


def test_a_chunk_that_its_steps_last_failure_overtook_is_announced() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    line = made.open(ordered=False)
    made.tell(line, started())
    made.until(1)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "E: no", clock(1), 0))
    made.until(2)
    made.tell(line, chunk(0, 0.9))
    assert [type(item).__name__ for item in made.items[-2:]] == ["Event", "StepGap"]


def test_a_chunk_that_two_failures_overtook_is_none_of_the_second_attempts() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (2, past(Status.RUNNING, 2))])
    line = made.open(ordered=False)
    for event in (started(), chunk(0, 0.5), chunk(1, 0.6)):
        made.tell(line, event)
    made.until(1)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "E: no", clock(1), 0))
    for event in (chunk(0, 1.1), chunk(1, 1.2)):
        made.tell(line, event)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "E: no", clock(1.5), 1))
    made.tell(line, chunk(2, 0.7))
    made.until(3)
    assert "2@0.7" not in [text for _, text in told(made, STEP_STREAM)]


def test_a_step_that_times_out_unheard_may_have_streamed_though_its_start_came_late() -> None:
    made = world(
        [(0, core(Status.RUNNING)), (4, core(Status.FAILED))],
        [(0, past(Status.QUEUED)), (4, past(Status.FAILED, retries=0, error="Task exceeded timeout of 3s"))],
    )
    line = made.open(ordered=True)
    made.until(1)
    made.tell(line, started())
    made.until(4)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, None, "", clock(4), None))
    made.until(9)
    ends = [item for item in made.items if isinstance(item, StepGap)]
    assert ends
    assert isinstance(made.items[-1], End)


def test_what_another_line_goes_on_to_tell_is_no_gap() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    line = made.open(ordered=True)
    for event in (started(), chunk(0, 0.1)):
        made.tell(line, event)
    fresh = made.open(ordered=False)
    made.close(line, None)
    made.tell(fresh, chunk(1, 0.2))
    made.until(1)
    made.tell(fresh, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1), 0))
    made.until(3)
    assert not [item for item in made.items if isinstance(item, StepGap)]


def failed(step: str = STEP) -> LiveEvent:
    return LiveEvent(RUN, Kind.FAILED, step, "E: no", clock(1), 0)


def two(*statuses: Status) -> tuple[CoreState, PastState]:
    pairs = [("one", STEP), ("two", OTHER)]
    steps = [CoreStep(name, id_, status) for (name, id_), status in zip(pairs, statuses, strict=True)]
    pasts = [
        PastStep(name, id_, status, 0, 2, created_at=clock(0))
        for (name, id_), status in zip(pairs, statuses, strict=True)
    ]
    return core(Status.RUNNING, *steps), PastState(RUN, Status.RUNNING, tuple(pasts))


def test_what_a_line_told_that_is_given_up_for_one_long_bound_is_no_gap() -> None:
    state, history = two(Status.RUNNING, Status.RUNNING)
    made = world([(0, state)], [(0, history)])
    line = made.open(ordered=True)
    for event in (started(), started(OTHER), replace(chunk(0, 0.1), step_run_id=OTHER), chunk(0, 0.1)):
        made.tell(line, event)
    made.until(1)
    made.tell(line, failed())
    fresh = made.open(ordered=True)  # for the attempt that will come; the other step is silent meanwhile
    made.until(2)
    made.close(line, None)
    for step, retry in ((STEP, 1), (OTHER, 0)):
        made.tell(fresh, LiveEvent(RUN, Kind.COMPLETED, step, "{}", clock(2.5), retry))
    made.until(4)
    assert len(told(made, STEP_COMPLETED)) == 2
    assert not [item for item in made.items if isinstance(item, StepGap)]


def test_a_bridge_that_is_given_up_while_the_line_beside_it_still_waits_for_the_engine_is_no_gap() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    line, bridge = made.open(ordered=True), made.open(ordered=False)
    made.until(3)
    made.tell(bridge, chunk(4, 3))
    made.until(6)
    made.close(bridge, None)
    made.until(7)
    for event in (chunk(4, 3), LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(7), 0)):
        made.tell(line, event)
    made.until(9)
    gaps = [item for item in made.items if isinstance(item, StepGap)]
    assert gaps == [StepGap(GapCause.JOINED_LATE, "one", 1, 4)]
    assert made.history.breaks == 0


def test_a_line_that_is_given_up_after_another_broke_proves_nothing_for_the_one_opened_since() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first, second = made.open(ordered=True), made.open(ordered=False)
    for line in (first, second):
        for event in (started(), chunk(0, 0.1)):
            made.tell(line, event)
    made.close(first)
    third = made.open(ordered=True)
    made.until(4)
    made.close(second, None)
    made.tell(third, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(4), 0))
    made.until(6)
    assert StepGap(GapCause.UPSTREAM, "one", 1, None) in made.items


def test_what_the_engine_holds_back_for_a_line_that_is_given_up_is_lost_and_said_to_be() -> None:
    state, history = two(Status.RUNNING, Status.QUEUED)
    made = world(
        [(0, state)], [(0, history)]
    )  # a moment later its first chunk is sent, then the line is bound
    line = made.open(ordered=True)
    made.until(0.3)
    made.tell(line, chunk(0, 0.3))
    made.until(1)
    made.tell(line, failed())
    fresh = made.open(ordered=True)
    made.until(2)
    made.close(line, None)  # and with it the other step's chunks, which the engine would have told at its end
    made.tell(fresh, LiveEvent(RUN, Kind.COMPLETED, OTHER, "{}", clock(2.5), 0))
    made.until(4)
    assert StepGap(GapCause.UPSTREAM, "two", 1, None) in made.items


def test_a_step_that_was_waiting_when_the_line_broke_may_have_begun_unheard() -> None:
    made = world(
        [(0, core(Status.QUEUED)), (2, core(Status.RUNNING))],
        [(0, past(Status.QUEUED)), (2, past(Status.RUNNING))],
    )
    line = made.open(ordered=True)
    made.until(0.1)
    made.close(line)
    made.until(3)  # it begins, and streams all it has
    again = made.open(ordered=True)
    made.tell(again, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(4), 0))
    made.until(5)
    assert StepGap(GapCause.UPSTREAM, "one", 1, None) in made.items


def test_a_failure_that_no_line_told_shows_that_chunks_may_be_lost() -> None:
    failing = past(Status.FAILED, 2, error="E: no", finished_at=clock(1))
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1, failing)])
    line = made.open(ordered=True)
    for event in (started(), chunk(0, 0.1)):
        made.tell(line, event)
    made.until(20)
    assert StepGap(GapCause.UPSTREAM, "one", 3, None) in made.items
    assert told(made, STEP_FAILED) == [(3, {"message": "E: no", "detail": "E: no"})]


def test_a_timeout_waits_for_its_words_and_announces_nothing() -> None:
    silent = past(Status.FAILED, 2, finished_at=clock(1))
    done = core(Status.FAILED, CoreStep("one", STEP, Status.FAILED, None, "Task exceeded timeout of 3s"))
    made = world([(0, core(Status.RUNNING)), (1.4, done)], [(0, past(Status.QUEUED, 2)), (1.2, silent)])
    line = made.open(ordered=True)
    made.until(0.5)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, None, "", clock(1), hangup=True))
    made.until(1.3)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, None, "", clock(1), hangup=True))
    made.until(20)
    words = {"message": "Task exceeded timeout of 3s", "detail": "Task exceeded timeout of 3s"}
    assert told(made, STEP_FAILED) == [(3, words)]
    assert not [i for i in made.items if isinstance(i, StepGap) and i.cause is GapCause.UPSTREAM]


def test_a_timeout_in_a_run_that_goes_on_has_its_words_from_the_task_events() -> None:
    event = PastTaskEvent("TIMED_OUT", clock(1), 2, "Task exceeded timeout of 3s")
    silent = past(Status.FAILED, 2, finished_at=clock(1), events=(event,))
    made = world([(0, core(Status.RUNNING))], [(0, silent)])
    made.open(ordered=True)
    made.until(0.5)
    assert told(made, STEP_FAILED)[0][1] == {"message": event.error, "detail": event.error}


def replayed(second: Status, retry: int) -> PastState:
    """Two steps of a replay: the first is over again, the second reads as before until it is its turn."""
    by_user = tuple(PastTaskEvent("RETRIED_BY_USER", clock(1), 0) for _ in range(1))
    one = PastStep("one", STEP, Status.COMPLETED, 1, 0, {"new": 1}, events=by_user)
    two = PastStep("two", OTHER, second, retry, 0, {"two": retry}, events=by_user)
    return PastState(RUN, second, (one, two))


def test_between_two_steps_of_a_replay_no_end_is_told_and_nothing_of_before() -> None:
    one, two = CoreStep("one", STEP, Status.COMPLETED), CoreStep("two", OTHER, Status.COMPLETED, '{"old":1}')
    false = core(Status.COMPLETED, one, two)
    runs = core(Status.RUNNING, replace(one, status=Status.QUEUED), replace(two, status=Status.RUNNING))
    true = core(Status.COMPLETED, one, replace(two, output='{"new":1}'))
    made = world(
        [(0, false), (0.05, runs), (2, true)],
        [
            (0, replayed(Status.COMPLETED, 0)),
            (0.2, replayed(Status.RUNNING, 1)),
            (2.1, replayed(Status.COMPLETED, 1)),
        ],
    )
    made.open(ordered=True)
    made.until(1.9)
    assert not [i for i in made.items if isinstance(i, End)]
    made.until(20)
    legal(made.items)
    assert [attempt for attempt, _ in told(made, STEP_COMPLETED)] == [2, 2]
    assert isinstance(made.items[-1], End)


def test_without_a_history_an_end_that_nobody_told_is_read_twice() -> None:
    false, runs = core(Status.COMPLETED), core(Status.RUNNING)
    made = world([(0, false), (0.05, runs), (2, false)], [])
    made.open(ordered=True)
    made.until(1.9)
    assert not [i for i in made.items if isinstance(i, End)]
    made.until(20)
    assert isinstance(made.items[-1], End)


def test_a_history_that_was_away_once_is_waited_for_before_an_attempt_is_guessed() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, 1))], past_away=True)
    line = made.open(ordered=False)
    made.until(0.05)
    made.tell(line, chunk(4, 0.1))
    made.past_away = False
    made.until(0.5)
    assert told(made, STEP_STREAM) == [(2, "4@0.1")]
    assert told(made, STEP_RETRYING) == [(1, None)]
    assert Reset("one", 2) in made.items


def pair(one: Status, two: Status, status: Status) -> CoreState:
    """A core state of two steps."""
    return core(status, CoreStep("one", STEP, one), CoreStep("two", OTHER, two))


def test_without_a_history_several_looks_in_pauses_of_a_replay_are_no_end() -> None:
    done = pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED)
    runs = pair(Status.QUEUED, Status.RUNNING, Status.RUNNING)
    made = world([(0, done), (0.8, runs), (3, done)], [])
    made.open(ordered=True)
    made.until(2.9)
    assert not [i for i in made.items if isinstance(i, End)], "done at 0, 0.1, 0.3 and 0.7 s"
    made.until(20)
    legal(made.items)
    assert isinstance(made.items[-1], End)


def test_without_a_history_a_step_that_is_heard_makes_the_looks_before_it_void() -> None:
    done = pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED)
    made = world([(0, done)], [])
    line = made.open(ordered=True)
    made.until(1.4)
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, OTHER, "{}", clock(1.4), 1))
    made.until(2.3)
    assert not [i for i in made.items if isinstance(i, End)]
    made.until(20)
    assert isinstance(made.items[-1], End)


def test_without_a_history_old_runs_end_within_two_seconds_and_tasks_at_once() -> None:
    made = world([(0, pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED))], [])
    made.until(2)
    assert isinstance(made.items[-1], End)
    task = world([(0, core(Status.COMPLETED))], [])
    task.until(0.3)
    assert isinstance(task.items[-1], End)


def test_who_heard_a_step_begin_needs_no_second_look_for_what_nobody_told() -> None:
    runs = pair(Status.RUNNING, Status.QUEUED, Status.RUNNING)
    done = pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED)
    made = world([(0, runs), (1, done)], [])
    line = made.open(ordered=True)
    made.tell(line, started())
    made.until(1)
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, None, "", clock(1), hangup=True))
    made.until(1.5)
    assert isinstance(made.items[-1], End)


def test_an_end_that_nobody_tells_is_looked_for_once_every_step_has_ended() -> None:
    made = world([(0, core(Status.RUNNING)), (1.2, core(Status.COMPLETED))], [(0, past(Status.RUNNING))])
    line = made.open(ordered=True)
    made.tell(line, started())
    made.until(1)
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1), 0))
    made.until(1.6)
    assert isinstance(made.items[-1], End)


def test_a_step_that_times_out_beside_one_that_streams_is_noticed_by_the_check() -> None:
    timeout = PastTaskEvent("TIMED_OUT", clock(5), 0, "Task exceeded timeout of 5s")
    steps = tuple(
        PastStep(name, step, Status.RUNNING, 0, 0, created_at=clock(0))
        for name, step in (("one", STEP), ("two", OTHER))
    )
    over = replace(steps[1], status=Status.FAILED, finished_at=clock(5), events=(timeout,))
    made = world(
        [(0, pair(Status.RUNNING, Status.RUNNING, Status.RUNNING))],
        [(0, PastState(RUN, Status.RUNNING, steps)), (5, PastState(RUN, Status.RUNNING, (steps[0], over)))],
    )
    line = made.open(ordered=True)
    for event in (started(), started(OTHER)):
        made.tell(line, event)
    for index in range(20):
        made.until(index + 0.5)
        made.tell(line, chunk(index, index + 0.5))
    assert told(made, STEP_FAILED) == [(1, {"message": timeout.error, "detail": timeout.error})]


def test_a_retry_while_the_history_is_away_and_its_failure_is_lost_is_found_once_it_is_back() -> None:
    made = world(
        [(0, core(Status.RUNNING))],
        [(0, past(Status.RUNNING)), (1, past(Status.RUNNING, 1, started_at=clock(1)))],
    )
    line = made.open(ordered=True)
    for event in (started(), chunk(0, 0.1), chunk(1, 0.2)):
        made.tell(line, event)
    made.until(0.9)
    made.past_away = True
    made.close(line)
    again = made.open(ordered=True)
    for index in range(3):  # of attempt 2: its failure was told while nobody listened
        made.until(1.1 + index / 10)
        made.tell(again, chunk(index, 1.1 + index / 10))
    made.until(4)
    made.past_away = False
    made.until(15)
    made.tell(again, chunk(3, 15))
    made.tell(again, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(16), 1))
    made.until(17)
    legal(made.items)
    assert [attempt for attempt, _ in told(made, STEP_RETRYING)] == [1]
    second = [text for attempt, text in told(made, STEP_STREAM) if attempt == 2]
    assert second == ["0@1.1", "1@1.2", "2@1.3", "3@15"]
    assert not [text for attempt, text in told(made, STEP_STREAM) if attempt == 1 and "@1." in str(text)]


def test_a_late_chunk_of_two_attempts_ago_is_none_of_the_new_ones() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (3, past(Status.RUNNING, 2))])
    line = made.open(ordered=False)
    for event in (started(), chunk(0, 1), chunk(2, 1.2)):
        made.tell(line, event)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "E: no", clock(2), 1))  # the first failure was lost
    made.tell(line, chunk(1, 1.1))
    made.until(4)
    made.tell(line, chunk(0, 4))
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(5), 2))
    made.until(6)
    assert [text for attempt, text in told(made, STEP_STREAM) if attempt == 3] == ["0@4"]


def test_a_chunk_that_is_dropped_for_its_time_is_no_secret() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, 1, started_at=clock(10)))])
    line = made.open(ordered=False)
    made.until(0.5)
    for event in (chunk(0, 12), chunk(1, 12.1)):
        made.tell(line, event)
    made.until(1)
    assert not [item for item in made.items if isinstance(item, StepGap)]
    for event in (chunk(2, 7), chunk(3, 7.1)):  # five seconds back
        made.tell(line, event)
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(8), 1))
    made.until(3)
    second = [text for attempt, text in told(made, STEP_STREAM) if attempt == 2]
    assert "2@7" in second or StepGap(GapCause.UPSTREAM, "one", 2, None) in made.items


def test_chunks_of_a_broken_line_from_before_a_failure_or_after_it_are_lost_and_said_to_be() -> None:
    failed = past(Status.FAILED, error="E: no", finished_at=clock(0.4))
    made = world(
        [(0, core(Status.RUNNING))], [(0, failed), (0.6, past(Status.RUNNING, 1, started_at=clock(0.45)))]
    )
    made.until(0.485)
    line = made.open(ordered=True)  # the history is asked, and will say FAILED
    made.until(0.49)
    made.tell(line, chunk(0, 0.49))
    made.until(0.52)
    made.close(line)
    made.tell(made.open(ordered=True), LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", clock(1), 1))
    made.until(3)
    legal(made.items)
    assert not [text for attempt, text in told(made, STEP_STREAM) if attempt == 1]
    assert told(made, STEP_STREAM) == [(2, "0@0.49")] or [
        item for item in made.items if isinstance(item, StepGap) and item.attempt == 2
    ]


def test_a_true_end_does_not_excuse_a_line_that_ended_at_a_false_one_long_before() -> None:
    made = world([(0, core(Status.QUEUED)), (2, core(Status.CANCELLED))], [(0, past(Status.QUEUED))])
    line = made.open(ordered=True)
    made.tell(line, started())
    made.until(0.5)
    made.tell(line, LiveEvent(RUN, Kind.FAILED, None, "", clock(0.5), hangup=True))
    made.close(line)
    made.until(1.9)  # chunks were sent meanwhile, to nobody
    line = made.open(ordered=True)
    made.tell(line, LiveEvent(RUN, Kind.CANCELLED, None, "", clock(1.9), hangup=True))
    made.until(5)
    assert StepGap(GapCause.UPSTREAM, "one", 1, None) in made.items


def test_a_chunk_whose_index_waits_already_from_an_earlier_time_is_of_another_attempt() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1.15, past(Status.RUNNING, 1))])
    line = made.open(ordered=False)
    made.until(0.9)
    for t, event in ((1.0, started()), (1.01, chunk(0, 1.01)), (1.07, chunk(2, 1.07))):
        made.until(t)
        made.tell(line, event)
    for index in (2, 3):  # the failure was lost, and so were chunks 0 and 1 of the attempt after it
        made.until(1.2 + index / 1000)
        made.tell(line, chunk(index, 1.2 + index / 1000))
    made.until(3)
    legal(made.items)
    assert [text for attempt, text in told(made, STEP_STREAM) if attempt == 2] == ["2@1.202", "3@1.203"]
    assert [text for attempt, text in told(made, STEP_STREAM) if attempt == 1] == ["0@1.01", "2@1.07"]


def test_who_is_cancelled_while_a_retry_waits_is_cancelled_in_the_retry() -> None:
    """Without a history; found by an hour of chaos."""
    made = world([(0, core(Status.RUNNING)), (2, core(Status.CANCELLED))], [])
    line = made.open(ordered=True)
    made.tell(line, started())
    made.until(0.2)
    made.tell(line, chunk(0, 0.2))
    made.tell(line, LiveEvent(RUN, Kind.FAILED, STEP, "ValueError: x", clock(0.3), 0))
    made.close(line)
    made.until(30)
    assert told(made, STEP_RETRYING, "step_cancelled") == [
        (1, {"message": "ValueError: x", "detail": "ValueError: x"}),
        (2, None),
    ]
    assert [(gap.attempt, gap.missed) for gap in made.items if isinstance(gap, StepGap)] == [(2, None)]
    legal(made.items)


def test_a_chunk_of_before_the_clock_was_put_back_is_no_retrys() -> None:
    """It was missed, and comes on a line by run id, after later ones; found by an hour of chaos."""
    retried = past(Status.COMPLETED, 1, finished_at=clock(9))
    made = world(
        [(0, core(Status.RUNNING)), (9, core(Status.COMPLETED))],
        [(0, past(Status.RUNNING)), (1.2, past(Status.QUEUED, 1)), (9, retried)],
    )
    made.until(0.5)
    by_pair, by_id = made.open(ordered=False), made.open(ordered=True)
    for index, at in ((2, 0.52), (3, 0.57), (4, 0.62), (5, 0.17)):
        made.tell(by_pair, chunk(index, at))
        made.until(made.now + 0.05)
    made.tell(by_pair, LiveEvent(RUN, Kind.FAILED, STEP, "ValueError: x", clock(0.3), 0))
    for index, at in ((1, 0.47), (2, 0.52), (3, 0.57), (4, 0.62), (5, 0.17)):
        made.tell(by_id, chunk(index, at))
    made.tell(by_id, LiveEvent(RUN, Kind.FAILED, STEP, "ValueError: x", clock(0.3), 0))
    made.until(40)
    assert told(made, STEP_STREAM) == [(1, "2@0.52"), (1, "3@0.57"), (1, "4@0.62"), (1, "5@0.17")]
    legal(made.items)
