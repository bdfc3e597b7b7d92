"""The keeper: looks after all shared runs of this process.

It notices leaders that are gone, keeps the logs of the runs that this replica leads, and exchanges
announcements with other replicas:

    leaving NAMES…    a replica drains, and gives these runs away
    resign NAME       a leader without clients gives this run away
    standby NAMES…    a leader asks for a replica that follows these runs at Hatchet too
    flush NAME MS     chunks of a run wait for a rule with this `merge`, which its leader does not know
    leads WHO NAMES…  a follower with clients has received nothing of these runs for a while, and asks their
                      leader WHO whether it knows that it leads them; if not, it answers with ``resign``
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol

from msgspec import Struct

from proxy.core.clock import Clock, LoopClock
from proxy.core.tasks import Background
from proxy.log.base import Life, LogAway, SharedLog
from proxy.observability.counters import LogCounters
from proxy.replicas.run_state import Role
from proxy.replicas.shared_run import SharedRun

EVERY: Final = 1.0  # seconds between two looks
GONE_TWICE: Final = 2.5
"""Seconds for which a leader's key must be missing: right after Redis was flushed, all keys are."""
KEEP_EVERY: Final = 300.0  # seconds after which the removal of a led log is put off again
ASK_EVERY: Final = 10.0  # seconds between two requests for a replica that stands by
CLAIM: Final = 25.0  # seconds that a claim lasts: it is renewed with each request
MOST_NAMES: Final = 500  # in one announcement
SILENT: Final = (3.0, 60.0)
"""Seconds without a record after which a follower asks: the first time, and at most: the time doubles."""
SPREAD: Final = 0.3  # seconds over which take-overs of a gone replica's runs are spread


class Opener(Protocol):
    """Opens runs that no client of this replica reads, because another replica asks for it."""

    async def open(self, name: str, seconds: float) -> SharedRun | None:
        """The shared run of a log's name, which stays at least for `seconds`; None where there is none."""


class _Silence(Struct):
    """The position that a followed run has reached, since when, and when the leader is asked about it."""

    position: int
    since: float
    wait: float = SILENT[0]


class Keeper:
    """All shared runs of this process. `standby`: how many replicas beside the leader follow each run."""

    def __init__(
        self,
        log: SharedLog,
        opener: Opener,
        counters: LogCounters,
        unforeseen: Callable[[Exception], None],
        *,
        standby: int = 0,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        self.standby = standby
        self.last_take_over: float | None = None
        """When this replica took a run over last, in Unix seconds."""
        self._take_overs = 0  # at the last look
        self._log = log
        self._opener = opener
        self._counters = counters
        self._unforeseen = unforeseen
        self._clock = clock or LoopClock()
        self._rng = rng or Random()
        self._runs: dict[str, SharedRun] = {}
        self._gone_since: dict[str, float] = {}  # by replica
        self._renewed_at: dict[str, float] = {}  # by log
        self._silent: dict[str, _Silence] = {}  # by log
        self._asked_at = float("-inf")
        self._leaving = False
        self._task: asyncio.Task[None] | None = None
        self._background = Background(unforeseen, expected=(LogAway,))

    def __len__(self) -> int:
        return len(self._runs)

    # -- runs --

    def add(self, run: SharedRun) -> None:
        """Add `run` to those that are looked after."""
        self._runs[run.name] = run

    def remove(self, run: SharedRun) -> None:
        """Remove `run` from those that are looked after."""
        if self._runs.get(run.name) is run:
            del self._runs[run.name]
            self._renewed_at.pop(run.name, None)
            self._silent.pop(run.name, None)

    def get(self, name: str) -> SharedRun | None:
        """The shared run of a log's name, if it is open."""
        return self._runs.get(name)

    def led(self) -> list[SharedRun]:
        """The runs that this replica leads."""
        return [run for run in self._runs.values() if run.role is Role.LEADING and not run.local]

    def followed(self) -> list[SharedRun]:
        """The runs that it serves from the log."""
        return [run for run in self._runs.values() if run.role is Role.FOLLOWING]

    def local(self) -> int:
        """How many runs it serves without the log."""
        return sum(run.local for run in self._runs.values())

    # -- looking around --

    def start(self) -> None:
        """Begin to look."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """End it."""
        ending = self._background.cancel()
        if self._task is not None:
            self._task.cancel()
            ending.append(self._task)
        await asyncio.gather(*ending, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await self._clock.sleep(EVERY)
            try:
                await self._look()
            except LogAway:
                self._gone_since.clear()
            except Exception as error:
                self._unforeseen(error)

    async def _look(self) -> None:
        led, followed, counters = self.led(), self.followed(), self._counters
        counters.leading, counters.following, counters.local = len(led), len(followed), self.local()
        if counters.take_overs != self._take_overs:
            self._take_overs = counters.take_overs
            self.last_take_over = time.time()
        if not self._log.is_up:
            self._gone_since.clear()
            return
        now = self._clock.now()
        for run in led:
            if now - self._renewed_at.setdefault(run.name, now) >= KEEP_EVERY:
                self._renewed_at[run.name] = now
                self._log.keep(run.name)
        await self._look_at_leaders(followed, now)
        self._ask_about_silence([run for run in followed if run.is_wanted], now)
        if self.standby and led and not self._leaving and now - self._asked_at >= ASK_EVERY:
            self._asked_at = now
            self._announce("standby", names=[run.name for run in led])

    async def _look_at_leaders(self, followed: Sequence[SharedRun], now: float) -> None:
        leaders = {run.progress.leader for run in followed}
        for replica in self._gone_since.keys() - leaders:
            del self._gone_since[replica]
        for replica in leaders:
            nobody = replica in ("", self._log.replica)  # the answer to this replica's own fence was lost
            if not nobody and await self._log.life(replica) is not Life.DEAD:
                self._gone_since.pop(replica, None)
                continue
            since = self._gone_since.setdefault(replica, now)
            if not nobody and now - since < GONE_TWICE:
                continue
            for run in followed:
                if run.progress.leader == replica and (run.is_wanted or run.stands_by):
                    self._background.start(self._take_over(run, replica))

    def _ask_about_silence(self, followed: Sequence[SharedRun], now: float) -> None:
        """Read the logs from which nothing came for a while, and ask whether they have a leader.

        The last record may have been stored and not published. And a live replica may not know that the log
        names it as the leader: the answer to its fence was lost, or it closed the run during an outage of
        the log.
        """
        asked: dict[str, list[str]] = {}
        for run in followed:
            position = run.progress.position
            silence = self._silent.get(run.name)
            if silence is None or silence.position != position:
                self._silent[run.name] = _Silence(position, now)
            elif now - silence.since >= silence.wait:
                self._silent[run.name] = _Silence(position, now, min(SILENT[1], 2 * silence.wait))
                asked.setdefault(run.progress.leader, []).append(run.name)
                self._background.start(run.catch_up())
        for leader, names in asked.items():
            self._announce("leads", leader, names=names)

    def _answer(self, names: Sequence[str]) -> None:
        """Resign runs that others believe to be led here, although they are not."""
        runs = [(name, self._runs.get(name)) for name in names]
        given_up = [name for name, run in runs if run is None or run.role is Role.FOLLOWING]
        if given_up:
            self._announce("resign", names=given_up)

    async def _take_over(self, run: SharedRun, leader: str) -> None:
        await self._clock.sleep(self._rng.uniform(0.0, SPREAD))
        await run.take_over(leader)

    # -- announcements --

    def announced(self, replica: str, words: Sequence[str]) -> None:
        """Another replica announced `words`."""
        verb, *names = words or [""]
        if verb == "flush" and len(names) == 2 and names[1].isdigit():
            run = self._runs.get(names[0])
            if run is not None and run.role is Role.LEADING:
                run.ask_flush(int(names[1]))
        if self._leaving:
            return
        if verb == "resign":
            for name in names:
                run = self._runs.get(name)
                if run is not None and run.is_wanted:
                    run.take_over_soon()
        elif verb == "leads" and names and names[0] == self._log.replica:
            self._answer(names[1:])
        elif verb in ("leaving", "standby"):
            self._background.start(self._claim(names, take_over=verb == "leaving"))

    async def _claim(self, names: Sequence[str], *, take_over: bool) -> None:
        """Take each run over, or stand by for it, unless a third replica does."""
        for name in names:
            run = self._runs.get(name)
            if take_over and run is not None and run.is_wanted:
                run.take_over_soon()
                continue
            await self._clock.sleep(self._rng.uniform(0.0, 0.02))
            kind = "lead" if take_over else "standby"
            if not await self._log.claim(f"{kind}:{name}", CLAIM):
                continue
            run = run or await self._opener.open(name, CLAIM)
            if run is None:
                continue
            if take_over:
                run.take_over_soon()
            else:
                run.stand_by()

    def _announce(self, *words: str, names: Sequence[str]) -> None:
        """Announce `words` with all names, in as many announcements as they need."""
        for start in range(0, len(names), MOST_NAMES):
            self._log.announce([*words, *names[start : start + MOST_NAMES]])

    # -- this replica drains --

    async def leave(self, seconds: float) -> None:
        """Give the runs that this replica leads to others; waits until they have them, at most `seconds`."""
        self._leaving = True
        led = self.led()
        if not led:
            return
        try:
            await self._log.leave()
            if await self._log.replicas() < 2:
                return
        except LogAway:
            return
        self._announce("leaving", names=[run.name for run in led])
        await asyncio.gather(*(run.give_away(seconds) for run in led))
