"""An end is published without a gap only if it is proven that every chunk before it was published."""

from __future__ import annotations

import pytest

from proxy.core.events import (
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_FAILED,
    Event,
    GapCause,
    StepGap,
)
from proxy.core.observations import Kind, LiveEvent, Status
from proxy.runs.reconcile.completeness import AttemptEnd, Verdict, tail
from proxy.runs.reconcile.subscription_state import Pulse, Selection, SubscriptionState
from proxy.runs.reconcile.timing import (
    AFTER_FLUSHES,
    END_PROOF_WAIT,
    HANGUP_LEAST,
    SEAM,
    SETTLE,
    SETTLE_MOST,
    SIGN_WAIT,
)
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
    failed,
    gaps,
    past,
    published,
    run_event,
    started,
    world,
)

TAIL = StepGap(GapCause.UPSTREAM, "one", 1, None)
SELECTIONS = pytest.mark.parametrize("by_id", [False, True], ids=["by metadata", "by run id"])
ENDS = pytest.mark.parametrize(
    ("kind", "type_"), [(Kind.COMPLETED, STEP_COMPLETED), (Kind.FAILED, STEP_FAILED)]
)


def end(kind: Kind, t: float) -> LiveEvent:
    text = '"x"' if kind is Kind.COMPLETED else "ValueError: x"
    return LiveEvent(RUN, kind, STEP, text, at(t), 0)


def streaming(*, by_id: bool = False) -> tuple[World, SubscriptionState]:
    """A step without retries whose events were received from its start; chunk 0 came at 0.2 s."""
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    one = made.open(ordered=by_id)
    made.emit(one, started())
    made.until(0.2)
    made.emit(one, chunk(0, 0.2))
    made.until(1.0)
    return made, one


def beside() -> tuple[World, SubscriptionState, SubscriptionState]:
    """The same by metadata; a subscription by run id was opened beside it at 1 s, and has brought nothing."""
    made, first = streaming()
    second = made.open(ordered=True)
    made.until(3.0)
    return made, first, second


# -- an end that a subscription delivers --


@ENDS
def test_by_metadata_an_end_is_proven_when_it_has_settled(kind: Kind, type_: str) -> None:
    made, one = streaming()
    made.emit(one, end(kind, 1))
    assert not published(made, type_), "chunks that it overtook may still come"
    made.until(1.0 + SETTLE - 0.001)
    assert not published(made, type_)
    made.until(1.0 + SETTLE)
    assert published(made, type_)
    assert gaps(made) == []
    legal(made.items)


@ENDS
def test_by_run_id_an_end_proves_nothing_about_the_tail(kind: Kind, type_: str) -> None:
    made, one = streaming(by_id=True)
    made.emit(one, end(kind, 1))
    made.until(2.0)
    assert published(made, type_)
    assert gaps(made) == [TAIL]


@SELECTIONS
def test_chunks_that_an_end_overtook_are_sent_before_it(by_id: bool) -> None:
    made, one = streaming(by_id=by_id)
    made.emit(one, completed(1))
    made.until(1.0 + SETTLE / 2)
    made.emit(one, chunk(1, 0.98), chunk(2, 0.99))
    made.until(2.0)
    assert chunks(made) == ["0@0.2", "1@0.98", "2@0.99"]
    types = [item.type for item in made.items if isinstance(item, Event)]
    assert types[-1] == STEP_COMPLETED
    assert gaps(made) == ([TAIL] if by_id else [])


def test_the_settling_time_begins_again_with_each_chunk_that_an_end_overtook() -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    for n in (1, 2, 3):
        made.until(made.now + SETTLE * 0.8)
        made.emit(one, chunk(n, 0.99))
    assert not published(made, STEP_COMPLETED)
    made.until(made.now + SETTLE)
    assert chunks(made) == ["0@0.2", "1@0.99", "2@0.99", "3@0.99"]
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == []


def test_a_step_without_a_chunk_is_whole_where_its_start_was_received() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1.0)
    made.emit(one, completed(1))
    made.until(2.0)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == []


@SELECTIONS
def test_a_step_without_a_chunk_has_a_gap_where_no_subscription_received_its_start(by_id: bool) -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    one = made.open(ordered=by_id)
    made.until(1.0)
    made.emit(one, completed(1))
    made.until(2.0)
    assert gaps(made) == [StepGap(GapCause.JOINED_LATE, "one", 1, None)]


def test_a_step_that_the_history_saw_waiting_after_the_subscription_opened_is_whole_without_a_chunk() -> None:
    made = world([(0, core(Status.QUEUED))], [(0, past(Status.QUEUED, retries=0))])
    one = made.open(ordered=False)
    made.until(1.0)
    made.emit(one, completed(2))
    made.until(2.0)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == []


def test_a_subscription_that_breaks_before_the_end_has_settled_proves_nothing() -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    made.until(1.0 + SETTLE / 2)
    made.close(one)
    made.until(2.0)
    assert gaps(made) == [TAIL]


def test_a_subscription_that_broke_and_was_opened_again_in_mid_step_proves_the_rest() -> None:
    made, one = streaming()
    made.close(one)
    again = made.open(ordered=False)
    made.until(1.1)
    made.emit(again, chunk(1, 1.1))
    made.until(2.0)
    made.emit(again, completed(2))
    made.until(3.0)
    assert chunks(made) == ["0@0.2", "1@1.1"], "the indices prove the middle"
    assert gaps(made) == []


def test_a_subscription_that_broke_and_was_opened_again_after_the_last_chunk_proves_nothing() -> None:
    made, one = streaming()
    made.close(one)
    again = made.open(ordered=False)
    made.until(2.0)
    made.emit(again, completed(2))
    made.until(3.0)
    assert gaps(made) == [TAIL]


# -- two subscriptions --


@ENDS
def test_an_end_waits_for_the_subscription_that_brought_the_chunks(kind: Kind, type_: str) -> None:
    made, first, second = beside()
    made.emit(second, end(kind, 3))
    made.until(3.02)
    assert not published(made, type_)
    made.emit(first, chunk(1, 2.9), end(kind, 3))
    made.until(3.1)
    assert published(made, type_)
    assert gaps(made) == []
    legal(made.items)


@ENDS
def test_an_end_that_no_subscription_proves_comes_with_a_gap(kind: Kind, type_: str) -> None:
    made, _, second = beside()
    made.emit(second, end(kind, 3))
    made.until(3.0 + END_PROOF_WAIT - 0.01)
    assert not published(made, type_)
    made.until(3.5)
    assert published(made, type_)
    assert gaps(made) == [TAIL]
    legal(made.items)


def test_an_end_that_waited_for_a_subscription_which_breaks_comes_without_more_waiting() -> None:
    made, first, second = beside()
    made.emit(second, completed(3))
    made.close(first)
    made.until(3.0 + SETTLE)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == [TAIL]


def test_a_sign_of_life_before_the_end_does_not_stand_in_for_the_end() -> None:
    made, first, second = beside()
    made.emit(first, started(OTHER, 2.9))
    made.emit(second, completed(3))
    made.until(4.0)
    assert gaps(made) == [TAIL], "the end, and with it chunks, may have been lost on the first"


def test_a_chunk_by_run_id_does_not_make_its_end_a_proof() -> None:
    made, first, second = beside()
    made.emit(second, chunk(1, 2.0))
    made.close(first, None)
    made.emit(second, completed(3))
    made.until(4.0)
    assert chunks(made) == ["0@0.2", "1@2"]
    assert gaps(made) == [TAIL]


def test_a_chunk_that_comes_while_the_end_settles_is_sent_whichever_subscription_brings_it() -> None:
    made, first, second = beside()
    made.emit(second, chunk(1, 2.0), completed(3))
    for one in (first, second):
        made.emit(one, chunk(2, 2.9))
    made.emit(first, completed(3))
    made.until(4)
    assert chunks(made) == ["0@0.2", "1@2", "2@2.9"]
    assert gaps(made) == []


def test_a_chunk_that_comes_after_the_end_is_announced_once() -> None:
    made, one = streaming()
    second = made.open(ordered=True)
    made.emit(one, completed(1))
    made.until(3)
    assert gaps(made) == []
    for each in (one, second, one):
        made.emit(each, chunk(1, 0.9), chunk(2, 0.95))
    assert gaps(made) == [TAIL], "one frame for many lost chunks"


def test_an_end_received_again_on_a_subscription_that_hangs_up_proves_nothing() -> None:
    made, _, second = beside()
    third = made.open(ordered=True)
    made.until(5.0)
    made.emit(second, completed(5))
    made.emit(third, completed(5), completed(5))
    made.close(third)
    made.until(6.0)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == [TAIL]


@pytest.mark.parametrize(("lag", "whole"), [(0.0, True), (0.2, False)])
def test_a_subscription_that_is_hung_up_after_an_end_counts_as_unbroken_unless_chunks_lag(
    lag: float, whole: bool
) -> None:
    made, one = streaming()
    if lag:
        lagging(made, lag)
    made.emit(one, completed(1))
    made.until(1.0 + AFTER_FLUSHES / 2)
    made.reconciler.closed(one, made.now, hung_up=True)
    made.open(ordered=False)
    made.until(3.0)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == ([] if whole else [TAIL])


# -- ends that no subscription delivers --


def stopped(*, by_id: bool = False) -> tuple[World, SubscriptionState]:
    """A step that streams and is cancelled at 3 s; the history knows it at 3.06, the core state at 5."""
    made = world(
        [(0, core(Status.RUNNING)), (5, core(Status.CANCELLED))],
        [(0, past(Status.RUNNING)), (3, past(Status.CANCELLED, started_at=at(0), finished_at=at(3)))],
    )
    one = made.open(ordered=by_id)
    made.emit(one, started())
    made.until(0.2)
    made.emit(one, chunk(0, 0.2))
    made.until(3.05)
    made.reconciler.history_poll.want(3.05)
    made.until(3.1)
    return made, one


def test_a_stop_that_only_a_state_shows_has_a_gap_where_the_subscription_may_be_dead() -> None:
    made, _ = stopped()
    made.until(3.0 + SIGN_WAIT)
    assert not published(made, STEP_CANCELLED)
    made.until(3.2 + SIGN_WAIT)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == [TAIL]


def lagging(made: World, seconds: float) -> None:
    """From now on chunks lag behind by so much."""
    made.lag_of_chunks = seconds


def test_the_settling_time_follows_the_lag_of_chunks() -> None:
    made, one = streaming()
    lagging(made, 1.0)
    made.emit(one, completed(1))
    made.until(1.9)
    assert not published(made, STEP_COMPLETED)
    made.emit(one, chunk(1, 0.9))
    made.until(2.5)
    assert not published(made, STEP_COMPLETED), "a chunk that was overtaken: more may come"
    made.until(2.9)
    assert chunks(made) == ["0@0.2", "1@0.9"]
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == []


def test_a_stop_is_not_proven_before_the_lag_of_chunks_has_passed() -> None:
    made, one = stopped()
    lagging(made, 1.0)
    made.until(3.2)
    made.emit(one, run_event(Kind.CANCELLED, 3.2))
    made.until(4.1)
    made.emit(one, chunk(1, 2.9))
    made.until(6)
    assert chunks(made) == ["0@0.2", "1@2.9"]
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []


def test_where_chunks_lag_too_far_an_end_comes_with_a_gap() -> None:
    made, one = streaming()
    lagging(made, 10.0)
    made.emit(one, completed(1))
    made.until(1.0 + SETTLE_MOST - 0.01)
    assert not published(made, STEP_COMPLETED)
    made.until(1.0 + SETTLE_MOST)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == [TAIL]


def test_by_run_id_a_stop_has_a_gap_at_once() -> None:
    made, _ = stopped(by_id=True)
    made.until(3.5)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == [TAIL]


def test_the_runs_end_on_the_subscription_that_brought_the_chunks_proves_a_stop() -> None:
    made, one = stopped()
    made.emit(one, run_event(Kind.CANCELLED, 3.1))
    made.until(3.4)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []


@pytest.mark.parametrize("first", [True, False], ids=["before the other", "after the other"])
def test_the_runs_end_proves_a_stop_whenever_another_subscription_brings_it_too(first: bool) -> None:
    made, one = stopped()
    other = made.open(ordered=True)
    for each in (one, other) if first else (other, one):
        made.emit(each, run_event(Kind.CANCELLED, 3.1))
    made.until(3.4)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []


def test_a_sign_of_life_after_a_stop_proves_it_when_it_has_settled() -> None:
    made, one = stopped()
    made.until(3.8)
    made.emit(one, chunk(1, 2.8), chunk(2, 2.9))
    made.until(3.8 + SETTLE)
    assert chunks(made) == ["0@0.2", "1@2.8", "2@2.9"]
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []


def test_a_sign_of_life_of_another_run_on_a_shared_subscription_proves_a_stop() -> None:
    made, one = stopped()
    one.pulse.at = 3.5
    made.until(4.5)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []


def test_a_chunk_that_is_sent_after_a_cancellation_takes_nothing_back() -> None:
    made, one = stopped()
    made.emit(one, run_event(Kind.CANCELLED, 3.1))
    made.until(4)
    made.emit(one, chunk(1, 3.2))
    made.until(6)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []


def test_a_chunk_that_comes_after_a_stop_and_was_sent_before_it_is_announced() -> None:
    made, one = stopped()
    made.until(3.8)
    made.emit(one, chunk(1, 2.8))
    made.until(3.95)
    assert published(made, STEP_CANCELLED)
    assert gaps(made) == []
    made.emit(one, chunk(2, 2.9), chunk(3, 3.5))
    assert gaps(made) == [TAIL]


def test_a_false_end_before_a_stop_does_not_prove_it() -> None:
    made = world(
        [(0, core(Status.QUEUED)), (6, core(Status.RUNNING)), (9.5, core(Status.CANCELLED))],
        [
            (0, past(Status.QUEUED)),
            (6, past(Status.RUNNING, started_at=at(6))),
            (9, past(Status.CANCELLED, started_at=at(6), finished_at=at(9))),
        ],
    )
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(0.1)
    made.emit(one, run_event(Kind.COMPLETED, 0.1))
    made.until(40)
    assert published(made, STEP_CANCELLED) == [(1, None)]
    assert gaps(made) == [TAIL]


def test_a_step_that_never_ran_has_no_gap() -> None:
    made = world(
        [(0, core(Status.QUEUED)), (3.5, core(Status.CANCELLED))],
        [(0, past(Status.QUEUED)), (3, past(Status.CANCELLED, finished_at=at(3)))],
    )
    made.open(ordered=True)
    made.until(40)
    assert published(made, STEP_CANCELLED) == [(1, None)]
    assert gaps(made) == []


def test_a_step_may_have_run_where_the_history_is_behind_the_done_state() -> None:
    made = world([(0, core(Status.QUEUED)), (3.5, core(Status.CANCELLED))], [(0, past(Status.QUEUED))])
    made.open(ordered=True)
    made.until(40)
    assert published(made, STEP_CANCELLED) == [(1, None)]
    assert len(gaps(made)) == 1


def test_a_retry_whose_beginning_no_subscription_received_has_a_gap() -> None:
    made = world(
        [(0, core(Status.RUNNING)), (9, core(Status.CANCELLED))],
        [
            (0, past(Status.RUNNING)),
            (1, past(Status.QUEUED, 1)),
            (4, past(Status.RUNNING, 1, started_at=at(4))),
            (7, past(Status.CANCELLED, 1, started_at=at(4), finished_at=at(7))),
        ],
    )
    first = made.open(ordered=False)
    made.emit(first, started())
    made.until(1.0)
    made.emit(first, failed(1, text="ValueError: x"))
    made.until(1.01)
    made.open(ordered=True)
    made.until(2.05)
    made.close(first, None)
    made.until(40)
    assert published(made, STEP_CANCELLED) == [(2, None)]
    assert [gap.attempt for gap in gaps(made)] == [2]


@SELECTIONS
def test_without_a_history_a_retry_that_is_cancelled_has_a_gap_where_no_subscription_was_open(
    by_id: bool,
) -> None:
    cores = [(0, Status.RUNNING), (1, Status.QUEUED), (4, Status.RUNNING), (7, Status.CANCELLED)]
    made = world([(t, core(status)) for t, status in cores], [])
    one = made.open(ordered=by_id)
    made.emit(one, started(), chunk(0, 0))
    made.until(1.0)
    made.emit(one, failed(1, text="ValueError: x"))
    made.until(40)
    assert published(made, STEP_CANCELLED) == [(2, None)]
    assert [gap.attempt for gap in gaps(made)] == ([1, 2] if by_id else [2])


# -- the proof itself --


def proof(
    *, kind: Kind | None = None, at_: float | None = 3.1, followed: bool = False, end_at: float | None = 3.0
) -> Verdict:
    """The verdict at 10 s on a stop at 3 s, where a subscription has brought a run event at 3.1 s."""
    one = SubscriptionState(Selection.BY_METADATA, 0.0, Pulse())
    one.starts.add((STEP, 1))
    if kind is not None:
        one.run_end = LiveEvent(RUN, kind, None, "", None if at_ is None else at(at_), hangup=True)
        one.run_end_at = 3.1
    end = AttemptEnd(
        known_at=3.0,
        settled_at=3.0,
        settle=SETTLE,
        sent_live=False,
        followed=followed,
        guessed=False,
        at=None if end_at is None else at(end_at),
    )
    return tail(STEP, 1, [], end, [one], now=10.0)


def test_a_run_event_proves_a_stop_where_it_is_not_older_than_the_stop() -> None:
    assert proof().whole is False
    assert proof(kind=Kind.CANCELLED).whole is True
    assert proof(kind=Kind.FAILED).whole is True
    assert proof(kind=Kind.FAILED, at_=2.9).whole is False
    assert proof(kind=Kind.COMPLETED).whole is False, "the engine says so while a run goes on"
    assert proof(kind=Kind.CANCELLED, followed=True).whole is False


def test_a_run_event_without_a_time_proves_a_stop_only_where_it_says_cancelled() -> None:
    assert proof(kind=Kind.CANCELLED, at_=None).whole is True
    assert proof(kind=Kind.CANCELLED, end_at=None).whole is True
    assert proof(kind=Kind.FAILED, at_=None).whole is False


def test_a_hangup_ends_a_subscription_when_it_comes_however_late_the_stream_ends() -> None:
    made, one = streaming()
    made.until(1.0)
    made.emit(one, completed(1.0))
    made.until(1.0 + SETTLE / 5)
    made.emit(one, run_event(Kind.COMPLETED, 1.0))
    made.until(1.0 + 2 * SETTLE)
    made.reconciler.closed(one, made.now, GapCause.UPSTREAM, hung_up=True)
    made.open(ordered=False)
    made.until(3)
    assert gaps(made) == [TAIL], "a chunk may have been cut off, and the next subscription came too late"


def test_a_subscription_that_was_hung_up_at_once_after_the_end_is_waited_for_until_the_next_is_open() -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    made.until(1.0 + AFTER_FLUSHES)
    made.reconciler.closed(one, made.now, GapCause.UPSTREAM, hung_up=True)
    made.until(1.0 + SETTLE - 0.001)
    assert not published(made, STEP_COMPLETED)
    made.until(2.0)
    assert gaps(made) == [TAIL]


def test_two_subscriptions_without_a_seam_count_as_one() -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    made.until(1.0 + AFTER_FLUSHES)
    made.reconciler.closed(one, made.now, GapCause.UPSTREAM, hung_up=True)
    made.until(made.now + SEAM / 2)
    made.open(ordered=False)
    made.until(2.0)
    assert published(made, STEP_COMPLETED)
    assert gaps(made) == []


def test_the_next_subscription_is_waited_for_though_the_end_has_settled() -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    made.until(1.0 + SETTLE * 0.9)
    made.reconciler.closed(one, made.now, GapCause.UPSTREAM, hung_up=True)
    made.until(made.now + SEAM * 0.9)
    assert not published(made, STEP_COMPLETED)
    made.open(ordered=False)
    made.until(2.0)
    assert gaps(made) == []


def test_an_end_that_is_no_hangup_can_have_cut_off_a_chunk_at_any_time_before_the_settling_time() -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    made.until(1.0 + AFTER_FLUSHES)
    made.reconciler.closed(one, made.now, GapCause.UPSTREAM)
    made.open(ordered=False)
    made.until(2.0)
    assert gaps(made) == [TAIL]


@pytest.mark.parametrize("seam", ["too early", "too long"])
def test_a_seam_that_is_too_early_or_too_long_breaks_the_proof(seam: str) -> None:
    made, one = streaming()
    made.emit(one, completed(1))
    made.until(1.0 + HANGUP_LEAST * (0.9 if seam == "too early" else 1.1))
    made.reconciler.closed(one, made.now, GapCause.UPSTREAM, hung_up=True)
    made.until(made.now + SEAM * (0.5 if seam == "too early" else 1.1))
    made.open(ordered=False)
    made.until(2.0)
    assert gaps(made) == [TAIL]
