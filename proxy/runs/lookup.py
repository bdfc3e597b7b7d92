"""Finder: runs by the application's own id, a metadata pair; before, during and after the run.

The history's list knows the newest run that carries the pair and has no parent. While it knows none, a
subscription by the pair is open as well, so that a browser that connects before the trigger gets the first
token. Its events are buffered and handed over to the run (`Found.feed`); it stays open until the run's own
subscription has caught up. Clients that wait for the same pair share one search.
"""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import Any, Final

from proxy.core.clock import Clock, LoopClock
from proxy.core.events import GapCause
from proxy.core.observations import STEP_END_KINDS, LiveEvent
from proxy.hatchet.errors import HatchetError, HistoryAway, MessageTooLarge, RunUnknown
from proxy.hatchet.upstream import Upstream
from proxy.runs.event_buffer import EventBuffer, size_of
from proxy.runs.followed_run import FollowedRun
from proxy.runs.observer import Observer
from proxy.runs.reconcile.subscription_state import Pulse
from proxy.runs.subscription import Subscription

LOOK_AGAIN: Final = (
    1.0  # seconds between reads of the list while waiting: it has what the subscription missed
)
CONFIRM: Final = 0.3  # seconds within which the list may name another run than the first one: it lags 0.1
CONFIRM_PAUSE: Final = 0.05  # seconds between those reads
HAND_OVER: Final = 30.0  # seconds after which a search ends, whatever the run's own subscription brings
PICK_UP: Final = 10.0  # seconds after which a found run that nobody takes is given up
MOST_BUFFERED: Final = 8 * 1024 * 1024  # bytes buffered until the run takes over


_Wanted = tuple[str, str, tuple[str, ...] | None]  # key, value, and globs of workflows


class Found:
    """A run that was found; `feed` hands over the events that were received meanwhile."""

    def __init__(self, run_id: str, search: Search | None = None) -> None:
        self.run_id = run_id
        self._search = search

    def feed(self, run: FollowedRun) -> None:
        """Give `run` the events received so far, and later ones until its own subscription has caught up."""
        if self._search is not None:
            self._search.hand_over(run)


class Search:
    """One search for one pair, shared by all requests that wait for it."""

    def __init__(self, finder: Finder, key: str, value: str, workflows: tuple[str, ...] | None) -> None:
        self.pair = (key, value)
        self.workflows = workflows
        self.waiting = 0
        self.found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.away: HatchetError | None = None  # why the list gave no answer
        self._down: HatchetError | None = None  # why the subscription is not open
        self._finder = finder
        self._pulse = Pulse()
        self._open_since: float | None = None
        self._received: dict[str, EventBuffer] = {}  # run id -> its events
        self._overflowed = False  # the buffers hold MOST_BUFFERED: later events were dropped
        self._bytes = 0
        self._run: FollowedRun | None = None
        self._first = asyncio.Event()
        self._opened = asyncio.Event()
        self._subscription = Subscription(
            partial(finder.upstream.follow_metadata, key, value),
            self,
            kind="find",
            clock=finder.clock,
            rng=finder.rng,
            observer=finder.observer,
        )
        self.task = asyncio.get_running_loop().create_task(self._search())

    async def _search(self) -> None:
        clock = self._finder.clock
        self._subscription.start()
        try:
            await self._either(self._opened, LOOK_AGAIN)
            while not self.found.done():
                if await self._in_list():
                    break
                if self._received and self.workflows is None:
                    await self._confirm()
                    break
                if self._received:  # only the list knows a run's workflow: ask it soon
                    await clock.sleep(CONFIRM_PAUSE)
                else:
                    await self._either(self._first, LOOK_AGAIN)
            started = clock.now()
            while clock.now() < started + PICK_UP and self._run is None:
                await clock.sleep(0.25)
            started = clock.now()
            while (
                clock.now() < started + HAND_OVER
                and self._run is not None
                and not self._run.does_without_searches
            ):
                await clock.sleep(0.25)
        finally:
            ending = self._subscription.close()
            if ending is not None:
                await asyncio.gather(ending, return_exceptions=True)
            if self._run is not None:
                self._run.unfeed(self.source, broken=False)
            self._received.clear()

    @property
    def source(self) -> str:
        """The name of this search's subscription in its run."""
        return "find:{}={}".format(*self.pair)

    async def _either(self, event: asyncio.Event, seconds: float) -> None:
        """Wait until `event` is set, or for `seconds`."""
        ways = {
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self._finder.clock.sleep(seconds)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def last_look(self) -> HatchetError | None:
        """Read the list once more. Returns why nobody can say that there is no such run, if that is so.

        While the subscription is down, Hatchet takes no new runs either: a client has to come again.
        """
        if self.found.done() or await self._in_list():
            return None
        return self.away or self._down

    async def _in_list(self) -> bool:
        try:
            run_id = await self._finder.look(*self.pair, self.workflows)
        except HatchetError as trouble:
            self.away = trouble
            return False
        except Exception as error:  # the search goes on: a client must not be told that there is no such run
            self._finder.observer.unforeseen(error)
            self.away = HistoryAway("the list of runs could not be read")
            return False
        self.away = None
        if run_id is not None:
            self._settle(run_id)
        return run_id is not None

    async def _confirm(self) -> None:
        """Take the first run that was received (children come later), unless the list soon names another."""
        clock = self._finder.clock
        first = next(iter(self._received))
        until = clock.now() + CONFIRM
        while clock.now() < until:
            if await self._in_list():
                return
            await clock.sleep(CONFIRM_PAUSE)
        self._settle(first)

    def _settle(self, run_id: str) -> None:
        if not self.found.done():
            self.found.set_result(Found(run_id, self))

    # -- events --

    def opened(self) -> None:
        """The subscription by the pair is open."""
        self._open_since = self._finder.clock.now()
        self._down = None
        self._opened.set()
        if self._run is not None:
            self._run.feed(self.source, self._pulse, self._open_since)
        for kept in self._received.values():
            kept.opened(self._open_since)

    def received(self, event: LiveEvent) -> None:
        """An event of one of the runs that carry the pair."""
        self._pulse.at = self._finder.clock.now()
        if event.kind in STEP_END_KINDS and event.step_run_id is not None:
            self._pulse.ended(self._pulse.at)
        if self._run is not None:
            self._run.deliver(event, self.source)
            return
        now = self._finder.clock.now()
        kept = self._received.get(event.run_id)
        if kept is None:
            kept = self._received[event.run_id] = EventBuffer(
                now if self._open_since is None else self._open_since
            )
        if not self._overflowed and self._bytes + size_of(event) <= MOST_BUFFERED:
            self._bytes += kept.received(event, now)
        elif not self._overflowed:
            self._overflowed = True  # events are missing from here on, as if the subscription had broken
            for each in self._received.values():
                each.closed(now, hung_up=False)
        self._first.set()

    def ended(self, cause: GapCause, trouble: HatchetError | None, *, hung_up: bool) -> None:
        """The subscription is over, and will be opened again; the list is still asked."""
        del cause
        self._open_since = None
        self._down = None if isinstance(trouble, MessageTooLarge) else trouble
        if self._run is not None:
            self._run.unfeed(self.source, hung_up=hung_up)
        for kept in self._received.values():
            kept.closed(self._finder.clock.now(), hung_up=hung_up)

    def hand_over(self, run: FollowedRun) -> None:
        """Give `run` all events received of it; the first caller gets the later ones too."""
        if self._run is not None or self.task.done():
            return
        self._run = run
        kept = self._received.pop(run.run_id, None)
        if kept is not None:
            kept.give_to(run, self.source, self._pulse)
        if self._open_since is not None:
            now = self._finder.clock.now()
            run.feed(self.source, self._pulse, now if self._overflowed else self._open_since)
        self._received.clear()


class Finder:
    """A team's searches."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        rng: Random | None = None,
    ) -> None:
        self.upstream = upstream
        self.clock = clock or LoopClock()
        self.observer = observer or Observer()
        self.rng = rng or Random()
        self._searches: dict[_Wanted, Search] = {}

    async def look(self, key: str, value: str, workflows: tuple[str, ...] | None = None) -> str | None:
        """Ask the list once. Raises HistoryAway."""
        self.observer.lookup("find")
        return await self.upstream.find(key, value, workflows)

    async def find(
        self, key: str, value: str, patience: float, workflows: tuple[str, ...] | None = None
    ) -> Found:
        """The newest run without a parent that carries the pair; waits up to `patience` seconds for it.

        `workflows`: only runs of workflows that one of these globs matches; None: of all.

        Raises RunUnknown after that, HistoryAway where the list gave no answer, or what keeps Hatchet from
        answering.
        """
        wanted = (key, value, workflows)
        search = self._searches.get(wanted)
        if search is None or search.found.done():  # a newer run may carry the pair by now
            away: HatchetError | None = None
            try:
                run_id = await self.look(key, value, workflows)
            except HistoryAway as trouble:
                run_id, away = None, trouble
            if search is not None and (run_id is None or run_id == search.found.result().run_id):
                return search.found.result()
            if run_id is not None:
                return Found(run_id)
            if patience <= 0:
                raise away or _unknown(key)
            search = self._searches.get(wanted) or self._begin(wanted)
        return await self._wait(search, patience)

    def _begin(self, wanted: _Wanted) -> Search:
        search = self._searches[wanted] = Search(self, *wanted)
        search.task.add_done_callback(lambda _: self._done(search))
        return search

    def _done(self, search: Search) -> None:
        wanted = (*search.pair, search.workflows)
        if self._searches.get(wanted) is search:
            del self._searches[wanted]

    async def _wait(self, search: Search, patience: float) -> Found:
        search.waiting += 1
        late = asyncio.ensure_future(self.clock.sleep(patience))
        try:
            ways: set[asyncio.Future[Any]] = {search.found, late}
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            away = await search.last_look()
            if search.found.done():
                return search.found.result()
            raise away or _unknown(search.pair[0])
        finally:
            search.waiting -= 1
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)
            if search.waiting == 0 and not search.found.done():
                search.task.cancel()
                self._done(search)

    async def close(self) -> None:
        """End all searches."""
        tasks = [search.task for search in self._searches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _unknown(key: str) -> RunUnknown:
    return RunUnknown(f"no run carries that {key}")
