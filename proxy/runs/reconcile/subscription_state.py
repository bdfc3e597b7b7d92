"""What one subscription has brought of a run, and therefore what it can prove."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from proxy.core.observations import LiveEvent
from proxy.runs.reconcile.timing import (
    AFTER_FLUSHES,
    CUT_FLUSH,
    END_WAITS,
    HANGUP_LEAST,
    LAG_IDLE,
    NEXT_FLUSHES,
    OPENS,
    OTHER_END,
    OTHER_END_AFTER,
    OVERLOADED_FOR,
    SEAM,
)

MOST_ENDS: Final = 64  # ends on a shared subscription that are remembered: those of OTHER_END
MOST_CLOSED: Final = 16  # subscriptions that are over and may still prove something


class Selection(Enum):
    """How a subscription selects its events."""

    BY_RUN_ID = "by_run_id"
    """The engine orders chunks, holds back what does not begin with index 0, and forgets a step at its end.
    An end on such a subscription says nothing about the chunks before it."""

    BY_METADATA = "by_metadata"
    """All chunks come as they are sent, apart from other events: chunks that were sent before an end come at
    most the settling time after it."""


@dataclass(slots=True)
class Pulse:
    """When a subscription last brought anything, of this run or of another that shares it.

    `ends`: when it brought the last ends of steps, where runs share it.
    """

    at: float = float("-inf")
    ends: list[float] = field(default_factory=list)

    def ended(self, at: float) -> None:
        """A step of any of the runs ended."""
        self.ends.append(at)
        del self.ends[:-MOST_ENDS]


@dataclass(slots=True)
class Overload:
    """When a team last wanted to follow more runs by subscriptions of their own than it may."""

    at: float = float("-inf")


@dataclass(slots=True, frozen=True)
class ReceivedEnd:
    """An attempt's end on one subscription: when it came, and from when on no more chunks of it can come."""

    at: float
    settled_at: float


@dataclass(slots=True, eq=False)
class SubscriptionState:
    """One subscription of a run.

    `opened_at` and `closed_at` are the seconds of the run's clock between which it was unbroken.
    """

    selection: Selection
    opened_at: float
    pulse: Pulse
    closed_at: float | None = None
    overload: Overload | None = None  # None: a subscription that a whole team shares
    hung_up_at: float | None = None  # when the engine ended it because no run that it had brought was active
    successor: SubscriptionState | None = None  # opened at once when this one was hung up
    last_event_at: float = float("-inf")  # when it last brought an event of this run
    chunk_at: float = float("-inf")  # when it last brought a chunk of this run
    last_chunk: dict[tuple[str, int], int] = field(default_factory=dict)
    """(step run id, number of the execution) -> the highest index that it brought"""
    starts: set[tuple[str, int]] = field(default_factory=set)
    """(step run id, attempt): attempts that began after it was opened"""
    waited: set[tuple[str, int]] = field(default_factory=set)
    """(step run id, attempt): those that waited for a worker after it was opened, by the history"""
    live_starts: dict[tuple[str, int], float] = field(default_factory=dict)
    """those of `starts` whose beginning (STARTED, or the failure before) it brought -> when that came"""
    ends: dict[tuple[str, int], ReceivedEnd] = field(default_factory=dict)
    """(step run id, attempt) -> the end that it brought"""
    run_end: LiveEvent | None = None  # the last event about the run's end that it brought
    run_end_at: float = float("-inf")  # when that came

    signs: dict[tuple[str, int], float] = field(default_factory=dict)
    """(step run id, attempt) -> when it first brought anything after that attempt had ended"""

    @property
    def complete(self) -> bool:
        """Whether it brings every chunk that is sent while it is open."""
        return self.selection is Selection.BY_METADATA

    def saw_beginning(self, attempt: tuple[str, int]) -> bool:
        """Whether no chunk of (step run id, attempt) was sent before it was opened, or kept back until now.

        An engine with too many subscriptions sends starts and ends in time, and chunks seconds later or
        never. So while a team's runs want more subscriptions than they may have, it is no proof that none
        came. The history may be behind: what it calls waiting may be over, unless the end came on this
        subscription too.
        """
        if attempt not in self.starts and not (attempt in self.waited and attempt in self.ends):
            return False
        return self.overload is None or self.overload.at < self.opened_at - OVERLOADED_FOR

    @property
    def silent(self) -> bool:
        """Whether it has brought nothing of this run yet."""
        return self.last_event_at == float("-inf")

    def began(self, step_run_id: str, attempt: int, now: float) -> None:
        """It brought the beginning of an attempt."""
        self.starts.add((step_run_id, attempt))
        self.live_starts.setdefault((step_run_id, attempt), now)

    def sign_of_life(self, attempt: tuple[str, int], ended_at: float) -> float | None:
        """When it first brought anything after `attempt` had ended; None: nothing yet.

        The first time is kept, because each later event of a shared subscription would restart the wait.
        """
        if self.pulse.at < ended_at:
            return None
        return self.signs.setdefault(attempt, self.pulse.at)

    @property
    def followed_until(self) -> float:
        """Until when the next subscription may be opened so that the two count as one."""
        if self.hung_up_at is None or self.successor is not None:
            return float("-inf")
        return self.hung_up_at + SEAM

    def stays_open(self, ended_at: float, until: float, settle: float) -> bool:
        """Whether nothing that came between an end at `ended_at` and `until` can have been missed.

        `settle`: for how many seconds an end waits for chunks now. The engine hangs up a subscription when
        the last run that it brought is over, 5 to 100 ms after the last step's end. It and its successor
        count as one if no chunk can have been flushed between the two.
        """
        over_at = self.closed_at if self.hung_up_at is None else self.hung_up_at
        if over_at is None or over_at >= until:
            return True
        following = self.successor
        if following is None or not self._cut_nothing(over_at, following.opened_at, ended_at, settle):
            return False
        return following.stays_open(ended_at, until, settle)

    def _cut_nothing(self, hung_up_at: float, reopened_at: float, ended_at: float, settle: float) -> bool:
        """Whether no chunk that was sent before an end was flushed between the hangup and the next
        subscription.

            sent        chunk ─┐   chunk ─┐  end ─┐
            flushed            ├ (20 ms) ─┼───────┼─ (40 ms)     chunks, at ticks
            flushed            │          │       └───── (20 ms) the end
            time line    ──────T──────────────────────h──e──────▶

        A chunk that missed the flush at T is flushed at a later tick. It is lost only if no subscription is
        open at that moment. Where chunks lag, the ticks prove nothing: any hangup may have cut one off.
        """
        after, since_chunk = hung_up_at - ended_at, hung_up_at - self.chunk_at
        if settle > LAG_IDLE or since_chunk < CUT_FLUSH or after < HANGUP_LEAST:
            return False
        if after >= AFTER_FLUSHES or (self.chunk_at >= ended_at - END_WAITS and self._alone(ended_at)):
            return True
        until = since_chunk + max(0.0, reopened_at - hung_up_at) + OPENS
        return not any(first <= until and since_chunk <= last for first, last in NEXT_FLUSHES)

    def _alone(self, ended_at: float) -> bool:
        """Whether no other end, of this run or of one that shares the subscription, came near one."""
        first, last = ended_at - OTHER_END, ended_at + OTHER_END_AFTER
        own = sum(first < end.at <= last for end in self.ends.values())
        return own <= 1 and sum(first < at <= last for at in self.pulse.ends) <= 1


class Subscriptions:
    """The subscriptions of a run: those that are open, and the last that are over."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: list[SubscriptionState] = []

    @property
    def open(self) -> list[SubscriptionState]:
        """Those that are open."""
        return [one for one in self.all if one.closed_at is None]

    def opened(self, one: SubscriptionState, now: float) -> None:
        """Another one is open; it succeeds those that were hung up just now."""
        for before in self.all:
            if now <= before.followed_until:
                before.successor = one
                one.starts |= before.starts  # the two count as one
                one.live_starts.update(before.live_starts)
                one.chunk_at = before.chunk_at
        self.all.append(one)
        over = [each for each in self.all if each.closed_at is not None]
        for each in over[:-MOST_CLOSED]:
            self.all.remove(each)
