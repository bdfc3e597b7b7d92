"""The phases of a run: what may only raise a suspicion, what is a claim, and what an end waits for."""

from __future__ import annotations

import pytest

from proxy.core.events import (
    RUN_CANCELLED,
    RUN_COMPLETED,
    RUN_FAILED,
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_SKIPPED,
)
from proxy.core.observations import CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.run_end import Phase, RunEnd, history_arrived, run_event
from proxy.runs.reconcile.timing import ALONE, CLOSE_WAIT, END_POLLS, LIVE_WAIT, REPLAY_PAUSE
from tests.support.scenario import OTHER, RUN, STEP, at, core, core_pair, past
from tests.support.scenario import run_event as live_run_event

HINT = live_run_event(Kind.COMPLETED, 1.0)
NEVER = float("inf")


def phase(end: RunEnd) -> Phase:
    return end.phase


def hint(end: RunEnd) -> LiveEvent | None:
    return end.hint


def claimed(asked: float = 0.0, now: float = 0.0) -> RunEnd:
    end = RunEnd()
    assert end.claimed(asked, now, alone=False)
    return end


def wait(end: RunEnd, now: float, **given: bool) -> float | None:
    rest = dict.fromkeys(("all_received", "doubtful", "alone", "listening", "history_behind"), False)
    return end.wait(now, **{**rest, **given})


def test_a_run_begins_running() -> None:
    end = RunEnd()
    assert (phase(end), hint(end), end.false_ends, end.polls_left) == (Phase.RUNNING, None, 0, 0)


def test_a_hint_makes_a_run_suspected_and_worth_some_reads() -> None:
    end = RunEnd()
    end.hinted(HINT, 1.0)
    assert (phase(end), hint(end), end.hint_at, end.polls_left) == (Phase.SUSPECTED, HINT, 1.0, END_POLLS)


def test_a_hangup_or_a_broken_subscription_makes_a_run_suspected_without_a_hint() -> None:
    end = RunEnd()
    end.suspect()
    assert (phase(end), hint(end), end.polls_left) == (Phase.SUSPECTED, None, END_POLLS)
    end.goes_on()
    assert end.false_ends == 0, "no event said that it was over"


def test_a_step_that_goes_on_disproves_a_hint() -> None:
    end = RunEnd()
    end.hinted(HINT, 1.0)
    end.goes_on()
    assert (phase(end), hint(end), end.polls_left, end.false_ends) == (Phase.RUNNING, None, 0, 1)
    end.goes_on()
    assert end.false_ends == 1


def test_a_chunk_takes_no_claim_back_but_a_suspicion_does_not_outrank_one() -> None:
    end = claimed()
    end.goes_on()
    assert phase(end) is Phase.CLAIMED
    end.suspect()
    assert phase(end) is Phase.CLAIMED


def test_a_claim_is_made_once() -> None:
    end = claimed(0.0, 0.1)
    assert not end.claimed(0.2, 0.3, alone=False)
    assert end.claimed_at == 0.1


@pytest.mark.parametrize(("alone", "pause"), [(False, REPLAY_PAUSE), (True, ALONE)])
def test_a_claim_stands_when_the_state_was_asked_for_again_after_a_replays_pause(
    alone: bool, pause: float
) -> None:
    end = claimed(0.0, 0.1)
    end.claimed(0.1 + pause - 0.001, 9.0, alone=alone)
    assert not end.stands
    end.claimed(0.1 + pause, 9.0, alone=alone)
    assert end.stands


def test_a_step_that_begins_or_ends_restarts_the_wait_of_a_claim() -> None:
    end = claimed(0.0, 0.0)
    end.claimed(1.0, 1.0, alone=False)
    assert end.stands
    end.step_changed(2.0)
    assert not end.stands
    end.claimed(2.0 + REPLAY_PAUSE - 0.001, 3.0, alone=False)
    assert not end.stands
    end.claimed(2.0 + REPLAY_PAUSE, 3.0, alone=False)
    assert end.stands


def test_a_state_that_goes_on_denies_a_claim() -> None:
    end = claimed()
    end.denied(1.0, running=False)
    assert phase(end) is Phase.RUNNING
    end.suspect()
    end.claimed(2.0, 2.0, alone=False)
    end.denied(3.0, running=False)
    assert phase(end) is Phase.SUSPECTED, "there are reads left"
    assert end.claimed(4.0, 4.0, alone=False), "the next claim is a new one"
    assert not end.stands


def test_a_running_step_disproves_a_hint_that_came_before_the_state_was_asked_for() -> None:
    end = RunEnd()
    end.hinted(HINT, 1.0)
    end.denied(0.9, running=True)
    assert end.hint is HINT, "the answer is older than the hint"
    end.denied(1.0, running=True)
    assert (hint(end), phase(end), end.false_ends) == (None, Phase.RUNNING, 1)


def test_each_denial_costs_a_read_and_a_running_step_all_but_one() -> None:
    end = RunEnd()
    end.suspect()
    end.denied(0.0, running=False)
    assert end.polls_left == END_POLLS - 1
    end.hint_at = 1.0
    end.denied(0.5, running=True)
    assert end.polls_left == 1
    end.denied(0.6, running=False)
    end.denied(0.7, running=False)
    assert end.polls_left == 0


# -- what a claimed end waits for --


def test_an_end_with_every_steps_end_received_waits_for_nothing() -> None:
    assert wait(claimed(), 0.0, all_received=True, listening=True, history_behind=True) is None


def test_a_doubtful_end_waits_until_it_stands() -> None:
    end = claimed()
    assert wait(end, 0.0, all_received=True, doubtful=True) == CLOSE_WAIT
    assert wait(end, CLOSE_WAIT, all_received=True, doubtful=True) is None
    end.stands = True
    assert wait(end, 0.0, all_received=True, doubtful=True) is None


def test_without_a_history_a_doubtful_end_waits_for_another_state_however_long() -> None:
    end = claimed()
    assert wait(end, 100.0, doubtful=True, alone=True) == NEVER
    assert wait(end, 100.0, doubtful=True, alone=True, all_received=True) is None
    end.stands = True
    assert wait(end, 100.0, doubtful=True, alone=True) is None


def test_an_end_that_only_the_state_knows_waits_for_the_subscription_and_for_the_history() -> None:
    end = claimed()
    assert wait(end, 0.0, listening=True) == LIVE_WAIT
    assert wait(end, LIVE_WAIT, listening=True) is None
    assert wait(end, LIVE_WAIT, listening=True, history_behind=True) == CLOSE_WAIT
    assert wait(end, 0.0, history_behind=True) == CLOSE_WAIT
    assert wait(end, CLOSE_WAIT, listening=True, history_behind=True) is None
    assert wait(end, 0.0) is None


# -- whether the history has arrived --


def test_a_history_has_arrived_when_every_step_is_at_rest_in_the_attempt_that_is_known() -> None:
    done, evidence = core(Status.COMPLETED), Evidence(STEP, 0.0)
    assert not history_arrived(None, done, {})
    assert not history_arrived(past(Status.RUNNING), done, {})
    assert history_arrived(past(Status.COMPLETED), done, {STEP: evidence})
    evidence.attempt_began(2, 0.0)
    assert not history_arrived(past(Status.COMPLETED), done, {STEP: evidence})
    assert history_arrived(past(Status.COMPLETED, 1), done, {STEP: evidence})
    two = core_pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED)
    assert not history_arrived(past(Status.COMPLETED, 1), two, {}), "a step is missing"
    behind = PastStep("one", STEP, Status.RUNNING, 1, 0)
    assert not history_arrived(PastState(RUN, Status.COMPLETED, (behind,)), done, {})


# -- the run's own event --


def ended(
    step: str, name: str, type_: str, payload: object, *, t: float | None, known: float = 0.0
) -> Evidence:
    evidence = Evidence(step, 0.0)
    evidence.name = name
    when = None if t is None else at(t)
    evidence.ended(Outcome(type_, 1, payload, when, live=True, known_at=known, emit_at=known))
    return evidence


def test_a_completed_run_has_the_outputs_of_its_steps_by_name() -> None:
    steps = (
        CoreStep("one", STEP, Status.COMPLETED, '{"a":1}'),
        CoreStep("two", OTHER, Status.COMPLETED, '{"skipped": true}'),
    )
    evidences = [
        ended(STEP, "one", STEP_COMPLETED, {"a": 1}, t=1),
        ended(OTHER, "two", STEP_SKIPPED, None, t=2),
        Evidence("of no state", 0.0),
    ]
    kind, payload, when, recovered = run_event(core(Status.COMPLETED, *steps), None, evidences, HINT)
    assert (kind, payload) == (RUN_COMPLETED, {"one": {"a": 1}, "two": None})
    assert (when, recovered) == (HINT.at, False)


def test_a_failed_run_has_the_failure_that_came_first() -> None:
    evidences = [
        ended(STEP, "one", STEP_FAILED, {"message": "later", "detail": "later"}, t=5, known=1),
        ended(OTHER, "two", STEP_FAILED, {"message": "first", "detail": "first"}, t=4, known=2),
    ]
    state = core_pair(Status.FAILED, Status.FAILED, Status.FAILED)
    kind, payload, when, recovered = run_event(state, None, evidences, None)
    assert (kind, payload) == (RUN_FAILED, {"message": "first", "detail": "first", "step": "two"})
    assert (when, recovered) == (None, True)
    evidences[1] = ended(OTHER, "two", STEP_FAILED, {"message": "untimed", "detail": ""}, t=None, known=2)
    assert run_event(state, None, evidences, None)[1]["step"] == "one", "by when they were received"
    assert run_event(state, None, [], None)[1] == {"message": "", "detail": "", "step": None}


def test_a_hint_of_another_kind_is_not_the_runs_event() -> None:
    history = PastState(RUN, Status.CANCELLED, (), finished_at=at(9))
    kind, payload, when, recovered = run_event(core(Status.CANCELLED), history, [], HINT)
    assert (kind, payload, when, recovered) == (RUN_CANCELLED, None, at(9), True)
