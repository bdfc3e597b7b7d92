"""What a merged session works with: its members, what decides about them, where their sessions come from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import structs

from proxy.core.events import STEP_ENDS, STEP_STARTED, End, Event, Item
from proxy.hatchet.errors import HatchetError
from proxy.runs.followed_run import FollowedRun
from proxy.streams.run_session import RunSession

if TYPE_CHECKING:
    from proxy.streams.merged.session import MergedSession


class TooManyRuns(HatchetError):
    """More runs would belong to the stream than it may have; the text is for the client's developer."""


class RunLeases(Protocol):
    """Gives the sessions of runs."""

    async def lease(self, run_id: str, *, resumes: bool) -> RunSession:
        """The session of a run. Each `lease` needs a `release`."""

    def release(self, session: RunSession, *, at_once: bool = False) -> None:
        """A session is not needed any more; `at_once`: it need not linger either."""

    def has_room_for(self, run_id: str) -> bool:
        """Whether ``limits.runs`` allows to follow this run too."""


class Feed(Protocol):
    """One subscription that brings the events of several runs."""

    def attach(self, run: FollowedRun) -> None:
        """Bring the events of `run`, and those that are buffered."""

    def detach(self, run: FollowedRun) -> None:
        """Stop bringing its events."""


class Membership(Protocol):
    """Decides which runs belong to a merged session."""

    settle_time: float
    """Seconds for which the items of runs that are over are waited for, to sort them."""
    guarded: bool
    """Whether a reader must be permitted each run; else permission for the first one is enough."""
    sequential: bool
    """Whether the items of a run come before those of the next one, as far as they are from the past."""

    async def first(self, session: MergedSession) -> None:
        """Add the runs that exist by now. Raises HatchetError."""

    async def watch(self, session: MergedSession) -> None:
        """Add the runs that begin later; runs until it is cancelled."""

    def holds(self, session: MergedSession, member: Member, item: Item) -> bool:
        """Whether `settle` must be awaited before `item` of `member` is sent."""

    async def settle(self, session: MergedSession, member: Member, item: Item) -> None:
        """Wait until `item` may be sent."""

    def ends(self, member: Member) -> bool:
        """Whether the end of this run is the end of the stream."""


class Member:
    """One run of a merged session; a listener of its run session.

    `parent` is what events of a child run have as their `parent`, `parent_step` the id of the step that
    started it. `created_at` is in nanoseconds since 1970, 0 where it is not known. `followed`: whether its
    items are sent at all. `past`: it was over when it was found. `workflow`: the name
    of its workflow, where that was known then.
    """

    def __init__(
        self,
        owner: MergedSession,
        run_id: str,
        *,
        created_at: int,
        parent: Mapping[str, Any] | None,
        parent_step: str | None,
        followed: bool,
    ) -> None:
        self.run_id = run_id
        self.created_at = created_at
        self.parent = parent
        self.parent_step = parent_step
        self.followed = followed
        self.past = False
        self.workflow: str | None = None
        self.over = False
        self.finished = False  # its end has come; it may not be sent yet
        self.session: RunSession | None = None
        self.leased = False
        self.open_steps: set[str | None] = set()  # that have begun and not ended, as far as items show
        self.items: list[Item] = []  # that wait: for the first sorting, or behind an item that is held
        self.held = False
        self.answered = asyncio.Event()  # it has given items, or will give none
        self.ended = asyncio.Event()
        self._owner = owner

    def receive(self, items: Iterable[Item]) -> None:
        """Items of the run."""
        for item in items:
            self._note(item)
            self.items.append(item)
        if self.items:
            self.answered.set()
            self._owner.received(self)

    def _note(self, item: Item) -> None:
        if isinstance(item, Event) and item.type == STEP_STARTED:
            self.open_steps.add(item.step_run_id)
        elif isinstance(item, Event) and item.type in STEP_ENDS:
            self.open_steps.discard(item.step_run_id)
        elif isinstance(item, End):
            self.finished = True

    @property
    def seems_over(self) -> bool:
        """Whether each step that has begun has ended: it is over, or between two steps."""
        return self.answered.is_set() and not self.open_steps

    def marked(self, item: Item) -> Item:
        """The item, with the run's parent in an event and the run's id in a gap or reset."""
        if isinstance(item, Event):
            return item if self.parent is None else structs.replace(item, parent=self.parent)
        return item if isinstance(item, End) else replace(item, run_id=self.run_id)

    def dropped(self) -> None:
        """The run session was closed: a replay began, or the team ends."""
        self._owner.lost(self)


async def all_answered(members: Sequence[Member], seconds: float) -> None:
    """Wait until all of them have given items, or for `seconds`."""
    waiting = [asyncio.ensure_future(member.answered.wait()) for member in members]
    try:
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
    finally:
        for each in waiting:
            each.cancel()
