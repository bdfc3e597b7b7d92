"""Which attempt an execution is: each row of the table, and what makes the difference."""

from __future__ import annotations

from typing import Any

from proxy.core.events import STEP_COMPLETED
from proxy.core.observations import Status
from proxy.runs.reconcile.attempts import LARGE, UNKNOWN, Attribution, Moment, attribute
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.placement import Execution
from proxy.runs.reconcile.timing import (
    ATTEMPT_WAIT,
    CLOCK_JITTER,
    RERUN_WAIT,
    SAME_FLUSH,
    SHORTEST_TIMEOUT,
    START_LAG,
)
from tests.support.scenario import STEP, at

NEVER = float("inf")


def known(**facts: Any) -> Evidence:
    """Evidence; a history that answered counts the attempts that are proven, unless said otherwise."""
    evidence = Evidence(STEP, 0.0)
    if "history_as_of" in facts:
        evidence.history_attempt = facts.get("proven", 1)
    for name, value in facts.items():
        setattr(evidence, name, value)
    return evidence


def received(
    sent: float | None, now: float | None = None, attempt: int | None = None, first: int = 0, number: int = 1
) -> Execution:
    """Three chunks of an execution; the first was sent at `sent` and received at `now`, if that was later."""
    one = Execution(number, sent if now is None and sent is not None else now or 0.0)
    one.first_index, one.last_index = first, first + 2
    one.first_at = None if sent is None else at(sent)
    one.attempt = attempt
    return one


def decide(
    one: Execution,
    evidence: Evidence,
    *,
    before: Execution | None = None,
    newer: int = 0,
    in_turn: bool = False,
    history: bool = True,
    over: bool = False,
    now: float | None = None,
) -> Attribution:
    when = one.first_received_at if now is None else now
    moment = Moment(when, ATTEMPT_WAIT, history and not over, over)
    return attribute(one, before, evidence, moment, newer=newer, in_turn=in_turn)


# -- the first execution that was received --


def test_what_its_own_subscription_brought_the_start_of_is_that_attempt_at_once() -> None:
    one = received(0.5)
    one.begun = (1, 0.4)
    assert decide(one, known()).attempt == 1


def test_a_start_proves_nothing_once_a_timeout_may_have_passed_unnoticed() -> None:
    one = received(3.0)
    one.begun = (1, 3.0 - SHORTEST_TIMEOUT)
    assert decide(one, known()).attempt is None
    assert decide(one, known(timeout=60.0)).attempt == 1
    assert decide(one, known(retries=0)).attempt == 1, "no attempt can follow"
    assert decide(one, known(retries=1)).attempt is None


def test_a_start_of_an_earlier_attempt_is_worth_nothing() -> None:
    one = received(0.5)
    one.begun = (1, 0.4)
    assert decide(one, known(proven=2)).attempt is None


def test_it_waits_for_an_answer_of_the_history_and_not_for_ever() -> None:
    one = received(5.0)
    waiting = decide(one, known())
    assert (waiting.attempt, waiting.until) == (None, 5.0 + ATTEMPT_WAIT)
    assert decide(one, known(history_as_of=4.99)).attempt is None
    assert decide(one, known(history_as_of=5.0)).attempt == 1
    assert decide(one, known(), now=5.0 + ATTEMPT_WAIT).attempt == 1
    assert decide(one, known(), history=False).attempt == 1
    assert decide(one, known(), over=True).attempt == 1


def test_an_answer_that_counts_attempts_is_believed() -> None:
    assert decide(received(5.0), known(proven=3, history_as_of=6.0)).attempt == 3


def test_it_is_of_the_attempt_in_whose_time_its_first_chunk_was_sent() -> None:
    began = {2: at(4.0), 3: at(6.0)}
    evidence = known(proven=3, history_as_of=9.0, began=began)
    assert decide(received(6.5), evidence).attempt == 3
    assert decide(received(6.0 - START_LAG * 0.9), evidence).attempt == 3
    assert decide(received(6.0 - START_LAG * 1.1), evidence).attempt == 2
    assert decide(received(3.0), evidence).attempt == 1


def test_it_is_of_an_earlier_attempt_where_that_failed_after_its_first_chunk() -> None:
    evidence = known(history_as_of=9.0)
    evidence.attempt_failed(1, "E", at(4.0), 4.0, live=False)
    evidence.attempt_began(2, 4.0)
    evidence.history_attempt = 2
    assert decide(received(3.0), evidence).attempt == 1
    assert decide(received(4.0), evidence).attempt == 2


def test_it_is_unknown_where_it_is_an_earlier_attempts_and_it_is_not_known_which() -> None:
    evidence = known(proven=3, history_as_of=9.0, began={3: at(6.0)})
    assert decide(received(5.0), evidence).attempt == UNKNOWN


def test_without_times_the_proven_attempt_is_believed_unless_it_waits_for_a_worker() -> None:
    evidence = known(proven=2, history_as_of=9.0)
    assert decide(received(5.0), evidence).attempt == 2
    evidence.history_status, evidence.history_attempt = Status.QUEUED, 2
    assert decide(received(5.0), evidence).attempt == UNKNOWN
    evidence.attempt_failed(1, "E", None, 6.0, live=True)
    assert decide(received(5.0), evidence).attempt == 1, "received before the failure of the attempt before"


def test_an_attempt_that_the_history_does_not_count_yet_is_not_believed() -> None:
    assert decide(received(5.0), known(proven=2, history_as_of=9.0, history_attempt=1)).attempt == 1


def test_executions_that_nothing_distinguishes_are_the_attempts_one_by_one_when_all_is_over() -> None:
    evidence = known(proven=2)
    assert decide(received(1.0, number=1), evidence, newer=1, over=True).attempt == 1
    assert decide(received(1.0, number=1), evidence, newer=2, over=True).attempt == UNKNOWN
    assert decide(received(1.0, number=1), evidence, newer=0, over=True).attempt == 2


def test_a_first_attempt_that_is_said_to_wait_is_believed_all_the_same() -> None:
    evidence = known(history_as_of=9.0, history_status=Status.QUEUED, history_attempt=1)
    assert decide(received(5.0), evidence).attempt == 1


def test_it_is_the_next_attempt_where_the_proven_one_failed_live_before_it() -> None:
    evidence = known()
    evidence.attempt_failed(1, "E", at(4.0), 4.0, live=True)
    assert decide(received(4.5), evidence).attempt == 2
    assert decide(received(3.5), evidence, now=9.0).attempt == 1


def test_after_a_failure_that_only_the_history_shows_that_must_show_the_next_attempt() -> None:
    evidence = known(history_as_of=4.0)
    evidence.attempt_failed(1, "E", at(4.0), 4.0, live=False)
    assert decide(received(5.0), evidence, over=True).attempt == 1
    waiting = decide(received(5.0), evidence)
    assert (waiting.attempt, waiting.until) == (None, NEVER), "a chunk alone begins no attempt"


def test_what_times_say_is_of_no_attempt_that_the_history_did_not_count_when_it_was_asked_later() -> None:
    evidence = known(history_as_of=9.0)
    evidence.attempt_failed(1, "E", at(4.0), 4.0, live=False)
    assert decide(received(4.0 + ATTEMPT_WAIT * 1.1), evidence).attempt == UNKNOWN


def test_what_times_say_is_of_no_attempt_after_one_whose_failure_came_later() -> None:
    evidence = known()
    evidence.attempt_failed(1, "E", at(4.0), 3.9, live=True)
    assert decide(received(4.5, now=3.8), evidence, now=4.0).attempt == UNKNOWN
    behind = received(4.5, now=3.9)
    behind.after = 1
    assert decide(behind, evidence, now=4.0).attempt == 2, "it came behind the failure, at once"
    evidence = known()
    evidence.attempt_failed(1, "E" * (LARGE + 1), at(4.0), 3.9, live=True)
    assert decide(received(4.5, now=3.8), evidence, now=4.0).attempt == 2, "it may be a second late"


# -- an execution after one whose attempt is known --


def test_one_that_is_older_than_that_is_of_no_attempt() -> None:
    before = received(5.0, attempt=1)
    assert decide(received(5.0 - CLOCK_JITTER * 1.1, now=6.0), known(), before=before).attempt == UNKNOWN
    assert decide(received(5.0 - CLOCK_JITTER * 0.9, now=6.0), known(), before=before).attempt is None
    assert decide(received(None, now=6.0), known(), before=before).attempt is None


def test_one_that_goes_on_is_of_the_failed_attempt_where_it_was_sent_before_the_failure() -> None:
    evidence = known()
    evidence.attempt_failed(1, "E", at(6.0), 6.0, live=True)
    before = received(1.0, attempt=1)
    assert decide(received(6.0, now=6.5), evidence, before=before) == Attribution(2)
    assert decide(received(5.0, now=6.5), evidence, before=before) == Attribution(2), "it begins again at 0"
    assert decide(received(5.0, now=6.5, first=3), evidence, before=before) == Attribution(1, rerun=True)
    assert decide(received(6.0, now=6.5, first=3), evidence, before=before) == Attribution(2)


def test_where_times_are_missing_the_order_of_arrival_decides() -> None:
    evidence = known()
    evidence.attempt_failed(1, "E", None, 6.0, live=True)
    before = received(1.0, attempt=1)
    assert decide(received(7.0), evidence, before=before) == Attribution(2)
    assert decide(received(5.5, first=3), evidence, before=before) == Attribution(1, rerun=True)
    assert decide(received(7.0, first=3), evidence, before=before) == Attribution(2)


def test_a_later_attempt_that_is_proven_takes_it() -> None:
    before = received(1.0, attempt=1)
    evidence = known(proven=2, history_as_of=9.0)
    assert decide(received(5.0), evidence, before=before) == Attribution(2)
    evidence.began[2] = at(6.0)
    assert decide(received(5.0), evidence, before=before) == Attribution(UNKNOWN), "two of attempt 1"
    assert decide(received(5.0, first=3), evidence, before=before) == Attribution(1, rerun=True), "it goes on"
    waiting = decide(received(5.0), known(proven=2), before=before)
    assert (waiting.attempt, waiting.until) == (None, 5.0 + ATTEMPT_WAIT)


def test_after_an_attempt_without_chunks_that_failed_it_is_the_attempt_after_that() -> None:
    """Attempt 1 sent chunks, attempt 2 failed before its first chunk: what was sent later is attempt 3."""
    before = received(1.0, attempt=1)
    evidence = known(proven=2)
    evidence.attempt_failed(2, "E", at(4.0), 4.0, live=True)
    assert decide(received(5.0, number=2), evidence, before=before).attempt == 3
    assert decide(received(3.0, number=2), evidence, before=before).attempt != 3


def test_an_evicted_attempt_runs_again() -> None:
    before = received(1.0, attempt=1)
    assert decide(received(5.0), known(was_evicted=True), before=before) == Attribution(1, rerun=True)


def test_after_the_end_it_is_the_same_attempt_again() -> None:
    evidence = known()
    evidence.ended(Outcome(STEP_COMPLETED, 1, {}, at(6.0), live=True, known_at=6.0, emit_at=6.0))
    before = received(1.0, attempt=1)
    assert decide(received(5.0, now=6.0), evidence, before=before) == Attribution(1, rerun=True)
    assert decide(received(5.0), known(), before=before, over=True) == Attribution(1, rerun=True)


def test_without_an_answer_of_the_history_it_waits_for_other_evidence() -> None:
    before = received(1.0, attempt=1)
    for history in (True, False):
        waiting = decide(received(5.0), known(), before=before, history=history, now=500.0)
        assert (waiting.attempt, waiting.until) == (None, NEVER)


def test_with_an_answer_it_is_the_same_attempt_again_when_nothing_spoke_of_another() -> None:
    before = received(1.0, attempt=1)
    evidence = known(history_as_of=5.0)
    waiting = decide(received(5.0), evidence, before=before)
    assert (waiting.attempt, waiting.until) == (None, 5.0 + RERUN_WAIT)
    assert decide(received(5.0), evidence, before=before, now=5.0 + RERUN_WAIT) == Attribution(1, rerun=True)


def test_one_that_goes_on_after_a_break_is_the_same_attempt_once_the_history_counts_no_other() -> None:
    before, one = received(1.0, attempt=1), received(5.0, first=3)
    assert decide(one, known(history_as_of=5.0), before=before) == Attribution(1, rerun=True)
    waiting = decide(one, known(), before=before)
    assert (waiting.attempt, waiting.until) == (None, 5.0 + 2 * RERUN_WAIT)
    waiting = decide(one, known(), before=before, history=False)
    assert (waiting.attempt, waiting.until) == (None, 5.0 + RERUN_WAIT)
    assert decide(one, known(), before=before, now=5.0 + 2 * RERUN_WAIT) == Attribution(1, rerun=True)


def test_one_that_goes_on_and_was_received_before_the_failure_is_the_failed_attempts() -> None:
    evidence = known()
    evidence.attempt_failed(1, "E", at(4.0), 6.0, live=True)
    before = received(1.0, attempt=1)
    assert decide(received(5.0, first=3), evidence, before=before) == Attribution(1, rerun=True)
    assert decide(received(5.0), evidence, before=before) == Attribution(2)
    assert decide(received(5.0, now=6.5, first=3), evidence, before=before) == Attribution(2)


def test_what_goes_on_right_after_a_failure_and_is_timed_after_it_is_of_no_known_attempt() -> None:
    """The failure overtook the attempt's last chunk, and the worker's clock is ahead."""
    evidence = known()
    evidence.attempt_failed(1, "E", at(4.0), 4.0, live=True)
    before = received(1.0, attempt=1)
    late = received(9.0, now=4.0 + SAME_FLUSH / 2, first=3)
    assert decide(late, evidence, before=before) == Attribution(UNKNOWN)
    late.first_received_at = 4.0 + 2 * SAME_FLUSH
    assert decide(late, evidence, before=before) == Attribution(2)


def test_what_came_in_turn_with_the_failures_and_in_the_order_of_times_is_of_no_later_attempt() -> None:
    """A connection held all back; the engine's clock was ahead, and attempt 3 is timed before that."""
    evidence = known(proven=3, history_as_of=9.0, began={3: at(0.7)})
    for attempt, t in ((1, 0.86), (2, 1.06)):
        evidence.attempt_failed(attempt, "E", at(t + 0.01), 6.0, live=True)
    one = received(0.86, now=6.0)
    assert decide(one, evidence, newer=2).attempt == 3
    assert decide(one, evidence, newer=2, in_turn=True).attempt == UNKNOWN


def test_after_a_failure_that_only_the_history_shows_its_next_answer_is_waited_for() -> None:
    evidence = known()
    evidence.attempt_failed(1, "E", at(4.0), 4.5, live=False)
    before = received(1.0, attempt=1)
    waiting = decide(received(5.0), evidence, before=before)
    assert (waiting.attempt, waiting.until) == (None, NEVER)
    assert decide(received(5.0), evidence, before=before, history=False) == Attribution(2)
    assert decide(received(5.0), evidence, before=before, over=True) == Attribution(2)


def test_an_execution_of_no_known_attempt_is_not_what_the_next_is_judged_by() -> None:
    undecided = received(1.0)
    assert decide(received(5.0), known(history_as_of=9.0), before=undecided).attempt == 1


def test_one_that_begins_after_a_later_attempt_failed_is_the_one_after_that() -> None:
    """Attempt 2 sent nothing and failed; the one before is of attempt 1."""
    evidence = known(proven=2)
    evidence.attempt_failed(2, "E", at(4.0), 4.0, live=True)
    assert decide(received(5.0), evidence, before=received(1.0, attempt=1), history=False).attempt == 3
