"""What all parts of a shared run use: the log, the clock, the team."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Protocol

from msgspec import Struct

from proxy.core.clock import Clock
from proxy.core.events import Item
from proxy.core.tasks import Background
from proxy.hatchet.upstream import Upstream
from proxy.log.base import SharedLog
from proxy.observability.counters import LogCounters
from proxy.runs.follower import RunFollower
from proxy.streams.run_session import RunSession


class Environment(Protocol):
    """What a team gives to its shared runs."""

    @property
    def merge_times(self) -> Collection[int]:
        """Each `merge` of the team's rules, in milliseconds."""

    def follower(self, run_id: str, publish: Callable[[Sequence[Item]], None]) -> RunFollower:
        """A follower of the run at Hatchet that has started, attached to the team's tap."""

    def detach(self, follower: RunFollower) -> None:
        """The follower gets nothing from the tap any more."""

    def is_wanted(self, run_id: str) -> bool:
        """Whether a client of this replica reads the run."""

    def discard(self, session: RunSession) -> None:
        """The session cannot go on: its clients reconnect and get another one."""

    def set_apart(self, session: RunSession) -> None:
        """The session goes on for clients with its cursors; all others get another one."""

    def unforeseen(self, error: Exception) -> None:
        """An exception that should not be possible was caught."""


class Context(Struct, frozen=True):
    """One shared run's surroundings; `log_keep`: seconds that the log of a finished run stays."""

    session: RunSession
    upstream: Upstream
    log: SharedLog
    environment: Environment
    counters: LogCounters
    background: Background
    clock: Clock
    rng: Random
    log_keep: float

    def discard(self) -> None:
        """The session cannot go on: its clients reconnect and get another one."""
        self.environment.discard(self.session)

    def set_apart(self) -> None:
        """The session goes on for clients with its cursors; all others get another one."""
        self.environment.set_apart(self.session)
