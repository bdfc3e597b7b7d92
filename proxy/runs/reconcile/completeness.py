"""Whether every chunk of an attempt was received: proven, not proven, or to be decided later.

**An attempt is whole when that is proven; else it has a gap.** Nothing is assumed. The proofs:

    the beginning   chunk 0 was received, or a subscription by metadata was open before the attempt began
    the middle      the indices have no hole (checked by the sequencer)
    the tail        one subscription by metadata
                    - brought the last chunk of the attempt (where there was none: was open before it began,
                      at a time when the engine was not known to be overloaded),
                    - was unbroken from then on,
                    - brought the attempt's end; or, where the engine sends no event for such an end, brought
                      any event after it (a sign of life),
                    - and stayed open for the settling time after that.

A subscription by run id proves no tail: the engine forgets a step at its end, with the chunks that the end
overtook.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.core.observations import Kind
from proxy.runs.reconcile.placement import Execution
from proxy.runs.reconcile.subscription_state import SubscriptionState
from proxy.runs.reconcile.timing import END_PROOF_WAIT, SETTLE_MOST, SIGN_WAIT


@dataclass(frozen=True, slots=True)
class Verdict:
    """`whole` None: not decided yet, ask again at `until` (seconds of the run's clock)."""

    whole: bool | None
    until: float = 0.0


WHOLE = Verdict(True)
NOT_PROVEN = Verdict(False)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt came to its end, as far as the proof needs it; times in seconds of the run's clock."""

    known_at: float  # when it was first known
    settled_at: float  # until then chunks that it overtook may come, on any subscription
    settle: float  # seconds that chunks may lag behind such an end now
    sent_live: bool  # the engine sends subscriptions an event for such an end
    followed: bool  # another attempt began after it
    guessed: bool  # no source says that no attempt followed it
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
    """Whether the tail of an attempt was received; called when all of its received chunks are emitted.

    `executions` are the step's; `subscriptions` those that are open and those that are over.
    """
    until = min(end.settled_at, end.known_at + SETTLE_MOST)
    for one in subscriptions:
        if not one.complete or not covers(one, step_run_id, attempt, executions):
            continue
        proven_at, hope_until = _proof(one, (step_run_id, attempt), end)
        if proven_at is not None:
            if not one.stays_open(end.known_at, proven_at, end.settle):
                until = max(until, one.followed_until)
                continue
            if now >= proven_at and (not end.guessed or one.closed_at is None):
                return WHOLE
            hope_until = min(proven_at, end.known_at + SETTLE_MOST)
        elif one.closed_at is not None:
            continue
        until = max(until, hope_until)
    return Verdict(None, until) if now < until else NOT_PROVEN


def covers(one: SubscriptionState, step_run_id: str, attempt: int, executions: Sequence[Execution]) -> bool:
    """Whether it was unbroken since the attempt's last chunk; where there is none, since before it began.

    An attempt is without chunks only if no received chunk can be its own: no execution has an
    unknown attempt, and none of an earlier attempt received one after it had begun.
    """
    last = next(
        (each for each in reversed(executions) if each.attempt == attempt and each.last_index >= 0), None
    )
    if last is not None:
        if last.guessed:
            return False  # its chunks may be of an attempt that no source named
        return one.last_chunk.get((step_run_id, last.number)) == last.last_index
    key = (step_run_id, attempt)
    began = one.live_starts.get(key, one.opened_at)
    return one.saw_beginning(key) and not any(
        not each.attempt or (each.attempt < attempt and each.last_received_at >= began) for each in executions
    )


def _proof(one: SubscriptionState, attempt: tuple[str, int], end: AttemptEnd) -> tuple[float | None, float]:
    """When the tail is proven if `one` stays open until then, and until when to wait.

    The first is None while nothing has come that begins the settling time.
    """
    received = one.ends.get(attempt)
    if received is not None:
        return received.settled_at, received.settled_at
    if end.sent_live and not end.followed:
        return None, end.known_at + END_PROOF_WAIT  # the end came from elsewhere; this one may still bring it
    if not end.followed and _saw_stop(one, end):
        return one.run_end_at + end.settle, one.run_end_at + end.settle
    sign = one.sign_of_life(attempt, end.known_at)
    if sign is not None:
        return sign + end.settle, sign + end.settle
    return None, end.known_at + (END_PROOF_WAIT if end.followed else SIGN_WAIT)


def _saw_stop(one: SubscriptionState, end: AttemptEnd) -> bool:
    """Whether it brought the run's end after the step was stopped; COMPLETED may be a false end."""
    event = one.run_end
    if event is None or event.kind is Kind.COMPLETED:
        return False
    if event.at is not None and end.at is not None:
        return event.at >= end.at
    return event.kind is Kind.CANCELLED
