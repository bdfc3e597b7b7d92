"""RunState: what this replica does for one run, and how far it has served the run's log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

from proxy.log.base import Record
from proxy.log.entries import ItemCodec
from proxy.log.fences import Fence, Fences, new_generation
from proxy.replicas.progress import Progress, Receiver


class Role(Enum):
    """What this replica does for the run."""

    OPENING = "opening"
    FOLLOWING = "following"
    LEADING = "leading"
    OVER = "over"
    CLOSED = "closed"


class RunState:
    """The role and the progress of one replica for one run; its parts read them, and change the role.

    `name` is the text of the run's log, `replica` this one's. `apart`: the log holds other items than this
    replica has served, so it serves from memory until the run is over. `progress` is set by `set_metadata`.
    """

    def __init__(self, run_id: str, name: str, replica: str, receiver: Receiver) -> None:
        self.run_id = run_id
        self.name = name
        self.replica = replica
        self.role = Role.OPENING
        self.apart = False
        self.progress: Progress
        self._receiver = receiver

    @property
    def opened(self) -> bool:
        """Whether it was decided what this replica does."""
        return self.role not in (Role.OPENING, Role.CLOSED)

    @property
    def over(self) -> bool:
        """Whether the verified end was served."""
        return self.role is Role.OVER or (self.opened and self.progress.over)

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set the run's metadata: it exists."""
        self.progress = Progress(ItemCodec(self.run_id, metadata), self._receiver)

    def forget(self) -> None:
        """Begin again, as if nothing of the log was served."""
        self.progress = Progress(self.progress.codec, self._receiver)

    def begin(self, number: int) -> None:
        """Begin a new generation with the fence `number`; nothing of it was served."""
        self.forget()
        generation = new_generation(number, secrets.token_urlsafe(6).replace(".", "_"))
        self.progress.begin(generation, number, self.replica)
        self._receiver.begin_after(0, None)

    def lead_next(self) -> None:
        """This replica leads from the next position on, under the next fence."""
        progress = self.progress
        progress.lead(progress.fence + 1, self.replica, progress.position + 1)

    def lead_alone(self) -> None:
        """This replica leads from the next position on, and its fence is not in the log.

        The fence has a number that this replica takes only once: later it may take the lead in the log under
        another fence, with other items at the same positions.
        """
        progress = self.progress
        progress.lead(max(progress.fence + 1, now_ms()), self.replica, progress.position + 1)

    def fence(self, number: int, position: int, replica: str | None = None) -> Record:
        """The record with which `replica` (None: this one) leads after `position`; empty: nobody does."""
        progress, replica = self.progress, self.replica if replica is None else replica
        fences = Fences(progress.fences.generation, progress.fences)
        if number != progress.fence:
            fences.add(Fence(number, position + 1, replica))
        summary = progress.summary(progress.contents, fences)
        return Record(number, position, fences.generation, replica, b"", summary)


def now_ms() -> int:
    """Unix milliseconds: the number of a generation's first fence."""
    return time.time_ns() // 1_000_000
