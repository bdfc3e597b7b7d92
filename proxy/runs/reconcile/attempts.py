"""Which attempt an execution of a step is: decided by evidence, or not yet.

"The one before" is the newest earlier execution whose attempt is known.

| known of the step                                               | the execution is                         |
|-----------------------------------------------------------------|------------------------------------------|
| it began after the step's end, by times                         | a replay's, which no source shows yet    |
| the first one; its subscription brought the attempt's beginning | that attempt, unless it is timed earlier |
| the first one; the history was asked after its first chunk      | the attempt that the history counts      |
| a later attempt than that of the one before has begun           | that attempt, or by times an earlier one |
| the attempt of the one before failed, and this one began later  | the next attempt                         |
| a state says EVICTED, or the step has ended                     | the same attempt, run again from the top |
| the history was asked, and for RERUN_WAIT no source has named   | the same attempt, run again from the top |
| another attempt                                                 | (a durable task)                         |
| else                                                            | not known yet: it waits                  |

Times do not decide against the order of arrival: an execution that came before an attempt's failure is not
a later attempt's; if its times say that it is, its attempt is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.instant import SECOND
from proxy.core.observations import Status
from proxy.runs.reconcile.evidence import Evidence, Failure
from proxy.runs.reconcile.placement import Execution
from proxy.runs.reconcile.timing import (
    CLOCK_JITTER,
    CLOCK_SKEW,
    FAILED_WAIT,
    LARGE_LATE,
    RERUN_WAIT,
    SAME_FLUSH,
    SHORTEST_TIMEOUT,
    START_LAG,
)

UNKNOWN: Final = 0  # stands for an attempt that cannot be known: the execution's chunks are never emitted

LARGE: Final = 4_000  # characters of a failure that the engine may pass on late

_JITTER: Final = int(CLOCK_JITTER * SECOND)
_SKEW: Final = int(CLOCK_SKEW * SECOND)
_START_LAG: Final = int(START_LAG * SECOND)


@dataclass(frozen=True, slots=True)
class Attribution:
    """`attempt` None: not known yet, decide again at `until`. `rerun`: it sends an attempt's chunks again."""

    attempt: int | None
    rerun: bool = False
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """When it is decided, and what can still become known.

    `asks`: the history can be asked; chunks wait `wait` seconds for its answer. `over`: nothing more will be
    known.
    """

    now: float
    wait: float
    asks: bool
    over: bool


def attribute(
    one: Execution, before: Execution | None, evidence: Evidence, moment: Moment, *, newer: int, in_turn: bool
) -> Attribution:
    """Which attempt `one` is; UNKNOWN where its times say a later one than the order of what came.

    `before` is the newest earlier execution whose attempt is known, `newer` the number of later executions.
    `in_turn`: no other execution began between the same two failures, and one did right after the second.
    """
    decided = _decide(one, before, evidence, moment, newer=newer)
    if evidence.history_attempt and _answered(one, evidence) and one.counted is None:
        one.counted = evidence.history_attempt
    if decided.attempt is not None and decided.attempt > _latest(one, before, evidence, in_turn=in_turn):
        return Attribution(UNKNOWN)  # a clock was wrong, so its times say nothing
    return decided


def _latest(one: Execution, before: Execution | None, evidence: Evidence, *, in_turn: bool) -> float:
    """The latest attempt that it can be, by the order in which chunks, failures and answers came.

    A retry's first chunk may come before the failure, but not by more than the failure can be late. Where it
    sends again what the failed attempt has sent, the failure is late. Where executions and failures came in
    turn, and in the order of their times, that is their order, also if all came at once.
    """
    again = before.attempt if before is not None and one.first_index <= before.last_index else None
    latest = float("inf") if one.counted is None else max(one.counted, 1)
    for attempt, failure in evidence.failures.items():
        if failure.live_at is None or not one.after < attempt < latest or attempt == again:
            continue
        late = failure.live_at - one.first_received_at
        if late < 0:
            continue
        if one.first_at is not None and failure.at is not None:
            late += max(0, one.first_at - failure.at) / SECOND
        large = len(failure.text or "") > LARGE
        before_it = in_turn and not large and _timed_before(one, failure)
        if late > (LARGE_LATE if large else SAME_FLUSH) or before_it:
            latest = attempt
    return latest


def _decide(
    one: Execution, before: Execution | None, evidence: Evidence, moment: Moment, *, newer: int
) -> Attribution:
    if _began_after_end(one, evidence):
        return Attribution(UNKNOWN) if moment.over else Attribution(None, until=float("inf"))
    if before is None or before.attempt is None:
        return _first(one, evidence, moment, newer=newer)
    attempt = before.attempt
    if before.first_at is not None and one.first_at is not None and one.first_at < before.first_at - _JITTER:
        return Attribution(UNKNOWN)  # older than an execution whose attempt is known
    goes_on = one.first_index > before.last_index
    if evidence.proven > attempt:
        if evidence.undecided and _began_after_failure(one, evidence, evidence.proven):
            return _next(one, evidence, moment)
        decided = _proven(one, evidence, moment, newer=newer)
        if decided.attempt is None or decided.attempt > attempt:
            return decided
        return Attribution(attempt, rerun=True) if goes_on else Attribution(UNKNOWN)
    if evidence.undecided:
        return _after_failure(one, evidence, moment, goes_on=goes_on)
    if evidence.was_evicted or evidence.end is not None or moment.over:
        return Attribution(attempt, rerun=True)
    return _same_again(one, evidence, moment, goes_on=goes_on)


def _began_after_end(one: Execution, evidence: Evidence) -> bool:
    """Whether it began after the step had ended: a replay, which no other source shows yet."""
    end = evidence.end
    if end is None or end.at is None or one.first_at is None:
        return False
    if not end.live:  # so by two clocks
        return one.first_at > end.at + _SKEW
    return not end.stopped and one.first_at > end.at + _JITTER


def _after_failure(one: Execution, evidence: Evidence, moment: Moment, *, goes_on: bool) -> Attribution:
    """The attempt before it failed, and nothing says yet that another one followed."""
    attempt = evidence.proven
    failure = evidence.failures[attempt]
    if goes_on:
        if one.first_received_at < failure.known_at or _began_after_failure(one, evidence, attempt) is False:
            return Attribution(attempt, rerun=True)
        if failure.live_at is not None and one.first_received_at < failure.live_at + SAME_FLUSH:
            return Attribution(UNKNOWN)  # the failure may have overtaken it
    return _next(one, evidence, moment)


def _next(one: Execution, evidence: Evidence, moment: Moment) -> Attribution:
    """The attempt after the failed one; where only the history has the failure, that says if there is one."""
    if evidence.failures[evidence.proven].live or not moment.asks or _answered(one, evidence):
        return Attribution(evidence.proven + 1)
    return Attribution(None, until=float("inf"))


def _same_again(one: Execution, evidence: Evidence, moment: Moment, *, goes_on: bool) -> Attribution:
    """Only the attempt of the execution before is known: it goes on after a break, or runs again."""
    attempt = evidence.proven
    until = one.first_received_at + RERUN_WAIT
    if goes_on:
        if _answered(one, evidence):  # and the history counts no other attempt
            return Attribution(attempt, rerun=True)
        if moment.asks:
            until += RERUN_WAIT
    elif not _answered(one, evidence):  # a failure that no subscription brought is known to the history alone
        return Attribution(None, until=float("inf"))
    return Attribution(attempt, rerun=True) if moment.now >= until else Attribution(None, until=until)


def _first(one: Execution, evidence: Evidence, moment: Moment, *, newer: int) -> Attribution:
    failure = evidence.failures.get(evidence.proven) if evidence.undecided else None
    if failure is not None:
        began = _began_after_failure(one, evidence, evidence.proven)
        if began if failure.live else began is not False and moment.asks:
            return _next(one, evidence, moment)
        until = failure.known_at + FAILED_WAIT
        if failure.live and moment.asks and moment.now < until:
            return Attribution(None, until=until)  # whether another attempt followed is known by then
    return _proven(one, evidence, moment, newer=newer)


def _proven(one: Execution, evidence: Evidence, moment: Moment, *, newer: int) -> Attribution:
    """The proven attempt, once no source can still say that the execution is a later or an earlier one."""
    proven = evidence.proven
    timed_before = _timed_before(one, evidence.failures.get(proven - 1))
    begun = None if timed_before else one.begun
    if begun is not None and begun[0] == proven and _still_the_same(evidence, begun[1], moment.now):
        return Attribution(proven)
    if proven == 1 and evidence.end is not None and evidence.end.live:
        return Attribution(proven)  # no other attempt ran
    until = one.first_received_at + moment.wait
    if moment.asks and moment.now < until and not _answered(one, evidence):
        return Attribution(None, until=until)
    if proven == 1:
        return Attribution(proven)
    if one.clock_put_back and one.first_received_at <= evidence.proven_at:
        return Attribution(UNKNOWN)  # its times say nothing, and it came before the attempt was known
    attempt = _by_times(one, evidence, newer=newer)
    if attempt is not None:
        return Attribution(attempt)
    if moment.over and newer:
        # Where nothing else distinguishes the executions: one for each attempt, if their numbers agree.
        return Attribution(proven - newer if one.number == proven - newer else UNKNOWN)
    counted = evidence.history_attempt
    if evidence.history_status is Status.QUEUED and (counted == proven or _answered(one, evidence)):
        # No attempt sends chunks while it waits for a worker: an earlier one did, or the history is behind.
        failure = evidence.failures.get(counted - 1)
        came_before_failure = (
            failure is not None and failure.live and one.first_received_at <= failure.known_at
        )
        return Attribution(1 if came_before_failure and counted == 2 else UNKNOWN)
    if (timed_before or one.first_received_at <= evidence.proven_at) and not _answered(one, evidence):
        return Attribution(UNKNOWN) if moment.over else Attribution(None, until=float("inf"))
    return Attribution(proven)


def _timed_before(one: Execution, failure: Failure | None) -> bool:
    """Whether its first chunk is timed before a failure: a live one is timed late, so a retry's may be."""
    if failure is None or failure.at is None or one.first_at is None:
        return False
    return one.first_at < failure.at


def _by_times(one: Execution, evidence: Evidence, *, newer: int) -> int | None:
    """The attempt in whose time the first chunk was sent: after its beginning, before its failure.

    A chunk may be timed somewhat before its attempt's start. But where `newer` executions follow, one of
    those is the attempt's, and this one is of the attempt before: a retry can follow its last chunk at once.

    UNKNOWN: an attempt before the proven one, but not known which. None: the times decide nothing.
    """
    proven: int = evidence.proven
    attempt, waits = proven, False
    if _answered(one, evidence):  # not an attempt that began after the history was asked
        waits = evidence.history_status is Status.QUEUED
        attempt = max(min(proven, evidence.history_attempt - waits), 1)
    if one.first_at is None or (attempt == 1 and waits):
        return None
    while attempt > 1:
        began = evidence.began.get(attempt)
        failure = evidence.failures.get(attempt - 1)
        if began is not None:
            earlier = one.first_at < began - (0 if newer else _START_LAG)
            came_before = failure is not None and failure.live and one.after < attempt - 1
            if not earlier and came_before and _clocks_disagree(one, failure, began):
                return UNKNOWN
        elif failure is not None and failure.failed_at is not None:
            earlier = one.first_at < failure.failed_at
        elif failure is not None and failure.at is not None and one.first_at >= failure.at:
            earlier = False
        else:
            return None if attempt >= proven - waits else UNKNOWN
        if not earlier:
            return UNKNOWN if _in_the_future(one, evidence) else attempt
        attempt -= 1
    return attempt


def _in_the_future(one: Execution, evidence: Evidence) -> bool:
    """Whether it is timed later than the engine's clock can have been when it came.

    The worker's clock was ahead, so it may have been sent before what it is timed after.
    """
    if one.first_at is None or evidence.clock is None or one.first_received_at > evidence.proven_at:
        return False
    return one.first_at > int(one.first_received_at * SECOND) + evidence.clock + _JITTER


def _clocks_disagree(one: Execution, failure: Failure | None, began: int) -> bool:
    """Whether times say nothing of what came before a failure, and is timed after the next attempt `began`.

    It is timed before the failure too: the worker's clock was put back, or is behind the engine's. Or the
    failure is timed after that beginning: the engine's clock was put back in between.
    """
    if failure is None or one.first_at is None:
        return False
    if failure.failed_at is not None:
        return failure.failed_at > began + _JITTER or one.first_at < failure.failed_at - _JITTER
    return failure.at is not None and failure.at > began + _SKEW


def _still_the_same(evidence: Evidence, begun_at: float, now: float) -> bool:
    """Whether no attempt can have ended unnoticed since then: only a timeout ends one without an event."""
    if evidence.is_last_attempt:
        return True
    return now < begun_at + (evidence.timeout if evidence.timeout is not None else SHORTEST_TIMEOUT)


def _answered(one: Execution, evidence: Evidence) -> bool:
    return evidence.history_as_of >= one.first_received_at


def _began_after_failure(one: Execution, evidence: Evidence, attempt: int) -> bool | None:
    """Whether it began after the attempt failed: by time, where both are known, else by what came first.

    A failure that a subscription brought is timed when the engine passed it on, up to a second late: what was
    sent before that may have been sent before or after the failure. None: not known. A history that has a
    failure without its time proves nothing about chunks that come later: a connection may have held them
    back.
    """
    failure = evidence.failures[attempt]
    at = failure.failed_at if failure.failed_at is not None else failure.at
    if at is not None and one.first_at is not None:
        return one.first_at >= at
    return failure.known_at <= one.first_received_at if failure.live else None
