"""The facts about one step run, from any source and in any order. It answers queries and decides nothing.

Three rules for facts that disagree: a later attempt voids the end of an earlier one; a subscription's event
outranks a state, because it has the details; of two times at which a fact became known the first one is
kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from proxy.core import payloads
from proxy.core.events import STEP_CANCELLED, STEP_FAILED
from proxy.core.observations import Status
from proxy.runs.reconcile.timing import FAILURE_TEXT_WAIT

# Attempts whose failure is remembered one by one; older ones are dropped.
MOST_FAILURES: Final = 1_000


@dataclass(slots=True)
class Failure:
    """How an attempt failed."""

    text: str | None  # None: only the count is known
    at: int | None  # the time that clients get; a subscription's is when the engine passed the failure on
    live: bool  # a subscription brought it
    known_at: float
    by_itself: bool  # the application failed or timed out: the engine counts it against the step's retries
    stopped: bool = False  # its code may go on for a while: a timeout
    failed_at: int | None = None  # when it failed, by the history
    live_at: float | None = None  # when a subscription first brought it


@dataclass(slots=True)
class Outcome:
    """How a step ended."""

    type: str
    attempt: int
    payload: Any
    at: int | None
    live: bool
    known_at: float
    emit_at: float  # not emitted before: the live event may come later than the state, and has the details
    ran: bool = True  # False: the attempt never ran, so it sent no chunk
    guessed: bool = False  # it is a failure, and no source says that no attempt followed
    confirmed: bool = True  # False: a cancellation that the history may know to be a schedule timeout

    @property
    def stopped(self) -> bool:
        """Whether the engine sends no event for such an end: a cancellation, a timeout."""
        return self.type == STEP_CANCELLED or (self.type == STEP_FAILED and payloads.timed_out(self.payload))


class Evidence:
    """The facts about one step run."""

    __slots__ = (
        "began",
        "children",
        "clock",
        "created_at",
        "emit_start_at",
        "end",
        "failed_since",
        "failures",
        "history_as_of",
        "history_attempt",
        "history_status",
        "id",
        "joined_in",
        "known_at",
        "name",
        "proven",
        "proven_at",
        "retries",
        "running",
        "started_at",
        "started_live",
        "timeout",
        "was_evicted",
    )

    def __init__(self, step_run_id: str, now: float) -> None:
        self.id = step_run_id
        self.name: str | None = None
        self.known_at = now  # when the step was first known
        self.created_at: int | None = None  # orders the steps
        self.children: tuple[str, ...] = ()  # names of the steps that begin after this one has ended
        self.started_live = False
        self.started_at: int | None = None
        self.emit_start_at = 0.0
        self.proven = 1  # the highest attempt that is known to have begun
        self.proven_at = now
        self.began: dict[int, int] = {}  # attempt -> when it began by the history, nanoseconds
        self.clock: int | None = None
        """The engine's clock less the run's is at most so many nanoseconds, by two answers of the history"""
        self.failures: dict[int, Failure] = {}
        self.failed_since: tuple[int, float] | None = None  # (attempt, since when the history says FAILED)
        self.retries: int | None = None  # the step's limit; None: not known
        self.timeout: float | None = None  # seconds after which the engine stops an attempt; None: not known
        self.running = False  # as the last state has it
        self.history_as_of = float("-inf")  # the history's answers know what happened until then
        self.history_attempt = 0
        self.history_status: Status | None = None
        self.was_evicted = False  # a state said so: the attempt runs again from the top
        self.joined_in = 0  # attempts up to this one may have sent chunks before a subscription was open
        self.end: Outcome | None = None

    def attempt_began(self, attempt: int, now: float) -> None:
        """`attempt` is known to have begun."""
        if attempt > self.proven:
            self.proven = attempt
            self.proven_at = now
            self.was_evicted = False
            if self.end is not None and self.end.attempt < attempt:
                self.end = None

    def is_over(self, attempt: int) -> bool:
        """Whether the end of an attempt is known, or of a later one."""
        ended = self.end.attempt if self.end is not None else 0
        return max(ended, *self.failures, 0) >= attempt

    def attempt_failed(
        self,
        attempt: int,
        text: str | None,
        at: int | None,
        now: float,
        *,
        live: bool,
        by_itself: bool = True,
        stopped: bool = False,
    ) -> None:
        """`attempt` failed; another one may follow or not."""
        self.attempt_began(attempt, now)
        known = self.failures.get(attempt)
        failed_at = None if live else at
        if known is None:
            live_at = now if live else None
            self.failures[attempt] = Failure(text, at, live, now, by_itself, stopped, failed_at, live_at)
            while len(self.failures) > MOST_FAILURES:
                del self.failures[next(iter(self.failures))]
            return
        if (live and not known.live) or (known.text is None and text):
            known.text, known.at = text, at
        known.live = known.live or live
        known.live_at = now if live and known.live_at is None else known.live_at
        known.by_itself = known.by_itself or by_itself
        known.stopped = known.stopped or stopped
        known.at = at if known.at is None else known.at
        known.failed_at = failed_at if known.failed_at is None else known.failed_at

    def ended(self, end: Outcome) -> None:
        """The step has ended; ignored for an attempt that another one followed."""
        self.attempt_began(end.attempt, end.known_at)
        if end.attempt < self.proven:
            return
        if self.end is None or (end.live and not self.end.live):
            if self.end is not None:
                end.known_at = self.end.known_at
            self.end = end

    def confirm_cancellation(self, attempt: int, now: float, *, failed: bool) -> None:
        """The history has the end of `attempt`, which a subscription called cancelled.

        `failed`: the history calls it a failure: a schedule timeout, and the history has the reason.
        """
        end = self.end
        if end is None or end.type != STEP_CANCELLED or end.attempt != attempt:
            return
        if failed:
            self.end = None
        else:
            end.confirmed, end.emit_at = True, min(end.emit_at, now)

    def failed_for_good(
        self, now: float, text: str | None = None, at: int | None = None, wait: float = 0.0
    ) -> None:
        """The proven attempt was the last one, and failed. `text` is a state's, where it has one.

        The end is emitted `wait` seconds from now or later; without a text, after FAILURE_TEXT_WAIT.
        """
        known = self.failures.get(self.proven)
        live = known is not None and known.live
        error_text = (known.text if known is not None else None) or text
        when = known.at if known is not None and known.at else at
        emit_at = now + (wait if error_text else FAILURE_TEXT_WAIT)
        since = known.known_at if known is not None else now
        end = Outcome(STEP_FAILED, self.proven, payloads.failure(error_text), when, live, since, emit_at)
        self.failures.setdefault(self.proven, Failure(error_text, when, live, now, by_itself=True))
        if self.without_text:
            self.end = None
        self.ended(end)

    def failed_live(self, until: float) -> int:
        """The last attempt whose failure a subscription had brought by then; 0: none."""
        return max(
            (
                attempt
                for attempt, failure in self.failures.items()
                if failure.live_at is not None and failure.live_at <= until
            ),
            default=0,
        )

    @property
    def without_text(self) -> bool:
        """Whether the step has failed, and the text of the failure is not known."""
        end = self.end
        return end is not None and end.type == STEP_FAILED and not end.payload["detail"]

    @property
    def undecided(self) -> bool:
        """Whether the proven attempt failed, and it is not known yet whether another one follows."""
        return self.end is None and self.proven in self.failures

    @property
    def is_last_attempt(self) -> bool:
        """Whether the step's limit allows no attempt after the proven one."""
        return self.retries is not None and self.proven > self.retries

    @property
    def retries_used_up(self) -> bool:
        """Whether no attempt can follow the failed one.

        The engine counts the application's own failures against `retries`; the history's count has replays
        and lost workers in it too. So this holds only where every attempt is known to have failed by itself.
        """
        if self.retries is None or self.proven != self.retries + 1:
            return False
        if len(self.failures) < self.proven:  # so that a huge count is not looped over
            return False
        own = [self.failures.get(attempt) for attempt in range(1, self.proven + 1)]
        return all(failure is not None and failure.by_itself for failure in own)
