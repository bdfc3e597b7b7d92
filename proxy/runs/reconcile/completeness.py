"""Whether every chunk of an attempt was told: proven, not proven, or to be asked again at a time.

**An attempt is whole when that is proven; else it has a gap.** Nothing is assumed. The proofs:

    the beginning   chunk 0 was told, or a subscription by metadata was open before the attempt began
    the middle      indices without a hole (the sequencer sees to that)
    the tail        one subscription by metadata brought the last chunk that was told (or was open before the
    attempt
                    began, where there was none), was unbroken from then on, and
                      a) brought the attempt's end and stayed open for the settling time, or
                      b) for an end that the engine tells no subscription of: gave a sign of life after it,
                      and
                         stayed open for the settling time

By run id nothing proves a tail: the engine forgets a step at its end, with the chunks that the end overtook.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.core.observations import Kind
from proxy.runs.reconcile.placement import Execution
from proxy.runs.reconcile.subscription_state import SubscriptionState
from proxy.runs.reconcile.timing import SETTLE, SETTLE_MOST, SIGN_WAIT, VOUCH_WAIT


@dataclass(frozen=True, slots=True)
class Verdict:
    """`whole` is None while it may still be proven: then it is to be asked again at `until`."""

    whole: bool | None
    until: float = 0.0


WHOLE = Verdict(True)
NOT_PROVEN = Verdict(False)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt came to its end, as far as the proof needs it; times in seconds of the run's clock."""

    known_at: float  # when it was first known
    settled_at: float  # until then chunks that it overtook may come, on whichever subscription
    settle: float  # seconds that chunks may lag behind such an end now
    told_live: bool  # the engine tells subscriptions of such an end
    followed: bool  # another attempt began after it
    at: int | None  # the engine's time of it, nanoseconds since 1970


def tail(
    step_run_id: str,
    attempt: int,
    executions: Sequence[Execution],
    end: AttemptEnd,
    subscriptions: Iterable[SubscriptionState],
    *,
    now: float,
) -> Verdict:
    """Whether the tail of an attempt was told, when all of its chunks that were heard are told.

    `executions` are the step's; `subscriptions` those that are open and those that were.
    """
    until = min(end.settled_at, end.known_at + SETTLE_MOST)
    for one in subscriptions:
        if not one.complete or not covers(one, step_run_id, attempt, executions):
            continue
        proven_at, hope_until = _proof(one, (step_run_id, attempt), end)
        if proven_at is not None:
            if not one.stays_open(end.known_at, proven_at, seams=end.settle <= SETTLE):
                until = max(until, one.followed_until)
                continue
            if now >= proven_at:
                return WHOLE
            hope_until = min(proven_at, end.known_at + SETTLE_MOST)
        elif one.closed_at is not None:
            continue
        until = max(until, hope_until)
    return Verdict(None, until) if now < until else NOT_PROVEN


def covers(one: SubscriptionState, step_run_id: str, attempt: int, executions: Sequence[Execution]) -> bool:
    """Whether it was unbroken from the last chunk that was told, or from before the attempt began."""
    last = next(
        (each for each in reversed(executions) if each.attempt == attempt and each.last_index >= 0), None
    )
    if last is None:
        return (step_run_id, attempt) in one.starts
    return one.last_chunk.get((step_run_id, last.number)) == last.last_index


def _proof(one: SubscriptionState, attempt: tuple[str, int], end: AttemptEnd) -> tuple[float | None, float]:
    """From when on the tail is proven if it stays open until then (None: not yet), and how long to hope."""
    heard = one.ends.get(attempt)
    if heard is not None:
        return heard.settled_at, heard.settled_at
    if end.told_live and not end.followed:
        return None, end.known_at + VOUCH_WAIT  # another one brought the end, or a state: this one may still
    if not end.followed and _saw_stop(one, end):
        return one.run_end_at + end.settle, one.run_end_at + end.settle
    sign = one.sign_of_life(attempt, end.known_at)
    if sign is not None:
        return sign + end.settle, sign + end.settle
    return None, end.known_at + (VOUCH_WAIT if end.followed else SIGN_WAIT)


def _saw_stop(one: SubscriptionState, end: AttemptEnd) -> bool:
    """Whether it brought the run's end after the step was stopped: a run that goes on is called completed."""
    event = one.run_end
    if event is None or event.kind is Kind.COMPLETED:
        return False
    if event.at is not None and end.at is not None:
        return event.at >= end.at
    return event.kind is Kind.CANCELLED
