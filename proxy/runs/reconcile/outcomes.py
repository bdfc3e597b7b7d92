"""Turns what the core state and the history say of a step into evidence.

`note_history` takes in an answer of the history. `conclude` takes a step's end from a done core state, where
no subscription brought that end.

The core state names the steps and says which are running; it has a step's outcome only once the run is done.
The history counts attempts and has outcomes before that, 50 to 100 ms late. Where the two disagree about a
step that has ended, the history is right: a schedule timeout is CANCELLED in the core state, FAILED in the
history.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy.core import payloads
from proxy.core.events import STEP_CANCELLED, STEP_COMPLETED, STEP_FAILED, STEP_SKIPPED
from proxy.core.instant import SECOND
from proxy.core.observations import CoreState, CoreStep, PastStep, PastTaskEvent, Status
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.timing import FAILED_WAIT

AT_REST: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

FAILURES: Final = frozenset({"FAILED", "TIMED_OUT"})  # task events of the history
TIMED_OUT: Final = "TIMED_OUT"
SKIPPED: Final = "SKIPPED"
STARTED: Final = "STARTED"
REPLAYED: Final = (
    "RETRIED_BY_USER"  # for all steps at once; until a step runs again its status is the old one
)
SCHEDULE_TIMEOUT: Final = "SCHEDULING_TIMED_OUT"


def note_history(evidence: Evidence, known: PastStep, as_of: float, now: float, emit_at: float) -> None:
    """Take in what the history says of a step; `emit_at`: before this its end is not emitted.

    `as_of`: what happened until then is in the answer.
    """
    evidence.children = known.children
    evidence.created_at = known.created_at if evidence.created_at is None else evidence.created_at
    evidence.started_at = known.created_at if evidence.started_at is None else evidence.started_at
    evidence.retries = evidence.retries if known.retries is None else known.retries
    evidence.timeout = evidence.timeout if known.timeout is None else known.timeout
    attempt = known.retry_count + 1
    for event in known.events:
        if event.type in FAILURES and event.retry_count < known.retry_count:
            _failed(
                evidence, event.retry_count + 1, _text(event), event.at, now, stopped=event.type == TIMED_OUT
            )
    replayed = _replayed(known)
    began = known.started_at if known.status is not Status.QUEUED else None  # else it is the attempt's before
    if began is not None and 0 < evidence.history_attempt < attempt:
        evidence.clock = began - int(evidence.history_as_of * SECOND)
    evidence.history_as_of = max(evidence.history_as_of, as_of)
    evidence.attempt_began(attempt + replayed, now)
    evidence.history_attempt = attempt + replayed
    evidence.history_status = known.status
    if known.status is Status.EVICTED:
        evidence.was_evicted = True
    if attempt < evidence.proven:
        return
    if began is not None:
        evidence.began[attempt] = began
    if known.status is Status.RUNNING and not evidence.undecided:
        evidence.running = True
    if known.status in AT_REST:
        evidence.confirm_cancellation(attempt, now, failed=known.status is Status.FAILED)
    if known.status is Status.FAILED:
        _says_failed(evidence, known, attempt, now)
        return
    evidence.failed_since = None
    ran = has_run(known)
    if known.status is Status.COMPLETED:
        skipped = any(event.type == SKIPPED for event in known.events)
        kind = STEP_SKIPPED if skipped else STEP_COMPLETED
        payload = None if skipped else known.output or None  # {} is also "returned nothing"
        evidence.ended(Outcome(kind, attempt, payload, known.finished_at, False, now, emit_at, ran))
    elif known.status is Status.CANCELLED:
        evidence.ended(Outcome(STEP_CANCELLED, attempt, None, known.finished_at, False, now, emit_at, ran))


def lacks_since(evidence: Evidence, known: PastStep) -> float:
    """Since when what the history's answer lacks is known; infinity: it lacks nothing."""
    attempt = known.retry_count + 1
    if evidence.proven > attempt and not _replayed(known):
        return evidence.proven_at
    if known.status in AT_REST:
        return float("inf")
    failure, end = evidence.failures.get(attempt), evidence.end
    failed_at = failure.known_at if failure is not None and failure.live else float("inf")
    return min(failed_at, end.known_at if end is not None and end.live else float("inf"))


def _replayed(known: PastStep) -> bool:
    """Whether a replay was asked for that has not begun."""
    return any(event.type == REPLAYED and event.retry_count >= known.retry_count for event in known.events)


def has_run(known: PastStep) -> bool:
    """Whether the last attempt was given to a worker, as far as the history knows.

    An attempt that failed with an error has run: the engine sets no error where no worker got the step.
    """
    if known.started_at is not None or known.status is Status.RUNNING or known.error:
        return True
    if known.events:
        return any(event.type == STARTED and event.retry_count == known.retry_count for event in known.events)
    return known.status is Status.COMPLETED


def _says_failed(evidence: Evidence, known: PastStep, attempt: int, now: float) -> None:
    last = [event for event in known.events if event.retry_count == attempt - 1]
    text = known.error or next((error_text for event in reversed(last) if (error_text := _text(event))), None)
    stopped = any(event.type == TIMED_OUT for event in last)
    _failed(evidence, attempt, text, known.finished_at, now, stopped=stopped)
    if evidence.failed_since is None or evidence.failed_since[0] != attempt:
        evidence.failed_since = (attempt, now)
    if evidence.without_text and text:
        evidence.failed_for_good(now)
    never_ran = not has_run(known)
    if evidence.undecided and (
        evidence.retries_used_up or never_ran or now >= evidence.failed_since[1] + FAILED_WAIT
    ):
        evidence.failed_for_good(now)
    if never_ran and evidence.end is not None:
        evidence.end.ran = False


def _failed(
    evidence: Evidence, attempt: int, text: str | None, at: int | None, now: float, *, stopped: bool
) -> None:
    evidence.attempt_failed(attempt, text, at, now, live=False, stopped=stopped)


def _text(event: PastTaskEvent) -> str | None:
    """What a task event says of a failure."""
    if event.error:
        return event.error
    if event.type == TIMED_OUT:
        return "Task exceeded its timeout"
    return (
        "Task was not assigned to a worker: scheduling timed out" if event.type == SCHEDULE_TIMEOUT else None
    )


def prove_retries(core: CoreState, evidences: Iterable[Evidence], now: float) -> None:
    """Count the attempts that a done state proves: after a last failure the status would be FAILED."""
    status = {known.step_run_id: _status(known, core) for known in core.steps}
    for evidence in evidences:
        if evidence.undecided and status.get(evidence.id) in {Status.COMPLETED, Status.CANCELLED}:
            evidence.attempt_began(evidence.proven + 1, now)


def conclude(evidence: Evidence, known: CoreStep, core: CoreState, past: PastStep | None, now: float) -> None:
    """Take a step's end, if it was not emitted yet, from a done core state."""
    status = _status(known, core)
    at = past.finished_at if past is not None else None
    end = evidence.end
    if past is not None and past.status is Status.FAILED and status is Status.CANCELLED:
        status = Status.FAILED
    if status is Status.COMPLETED:
        kind = STEP_SKIPPED if _was_skipped(evidence, known, core, past) else STEP_COMPLETED
        if end is None or end.type != kind or not end.live:
            payload = None if kind == STEP_SKIPPED else payloads.output(known.output)
            ran = end.ran if end is not None else _may_have_run(evidence, past)
            since = end.known_at if end is not None else now
            evidence.end = Outcome(kind, evidence.proven, payload, at, False, since, now, ran)
    elif status is Status.FAILED:
        arrived = past is not None and past.status in AT_REST and past.retry_count + 1 >= evidence.proven
        guessed = evidence.undecided and not arrived
        if end is None or end.type != STEP_FAILED or (evidence.without_text and known.error):
            evidence.end = None
            evidence.failed_for_good(now, known.error or (past.error if past is not None else None), at)
            if evidence.end is not None:
                evidence.end.ran = evidence.end.ran and (bool(known.error) or _may_have_run(evidence, past))
                evidence.end.guessed = guessed
    elif status is Status.CANCELLED and end is None:  # also of finished steps of a cancelled run
        ran = _may_have_run(evidence, past)
        evidence.end = Outcome(STEP_CANCELLED, evidence.proven, None, at, False, now, now, ran)


def _may_have_run(evidence: Evidence, past: PastStep | None) -> bool:
    """Whether the proven attempt may have sent chunks; only a history that has its end can deny it."""
    arrived = past is not None and past.status in AT_REST and past.retry_count + 1 >= evidence.proven
    return not arrived or past is None or has_run(past)


def _was_skipped(evidence: Evidence, known: CoreStep, core: CoreState, past: PastStep | None) -> bool:
    """Whether the engine skipped the step.

    The history says so. The core state alone has only an output, which a step may also return itself.
    """
    if past is not None and past.events and past.status in AT_REST:
        return any(event.type == SKIPPED for event in past.events)
    end = evidence.end
    completed = end is not None and end.type == STEP_COMPLETED and end.live
    return not completed and evidence.id != core.run_id and payloads.skipped(known.output)


def _status(known: CoreStep, core: CoreState) -> Status:
    at_rest = known.status in AT_REST or core.status is not Status.CANCELLED
    return known.status if at_rest else Status.CANCELLED
