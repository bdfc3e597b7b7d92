"""Run: one run's life: the loop around its history: subscriptions, look-ups, timers.

The history decides, this does: it opens and closes subscriptions, reads the states the history wants to see,
ticks when something is due, and publishes what comes out, synchronously, in order. Everything that is due is
done in `_attend`; one sleeper wakes it. A chunk in order passes without it.

Trouble with Hatchet never ends a run: it is kept in `trouble` and tried again. Only the verified end does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from proxy.bridges import SECONDS as BRIDGE_SECONDS
from proxy.bridges import Bridges
from proxy.clock import Clock, LoopClock
from proxy.errors import (
    BadChunk,
    HatchetAway,
    HatchetError,
    HistoryAway,
    MessageTooLarge,
    RateLimited,
    RunUnknown,
    TokenRefused,
)
from proxy.events import CoreState, End, Event, GapCause, Item, LiveEvent, Reset, StepGap
from proxy.history import History
from proxy.line import Line
from proxy.upstream import Upstream
from proxy.watch import RunWatch
from proxy.wires import MOST, SPREAD, Backoff, Wire, choose, earliest

SECOND_LOOK: Final = 0.1  # seconds after the first: a subscription opened by then binds at once
OPEN_PATIENCE: Final = 0.5  # seconds that the first look waits for the subscription to be on the wire
TAP_PATIENCE: Final = 1.0  # seconds that a run waits for a tap that broke before it subscribes by itself
BRIDGE_PAUSE: Final = 0.5  # seconds until a run asks again for a bridge where the team has none left
BRIDGE_LOSSES: Final = 3  # how often a bridge that the engine ended is opened again
NAP: Final = 0.002  # seconds: whatever goes wrong with what is due, a run never spins
TRACE: Final = "traceparent"  # the engine puts it into every run's metadata
PASSING: Final = (HatchetAway, TokenRefused, RateLimited)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What operators may turn."""

    check_after: float = 15.0  # seconds without an event after which the state is read


class Run:
    """One run of one team; `publish` gets its items, each once, in order."""

    def __init__(
        self,
        run_id: str,
        upstream: Upstream,
        *,
        publish: Callable[[Sequence[Item]], None],
        settings: RunSettings | None = None,
        clock: Clock | None = None,
        watch: RunWatch | None = None,
        bridges: Bridges | None = None,
        rng: Random | None = None,
        pair: tuple[str, str] | None = None,
    ) -> None:
        """`pair`: the tap's; a run that carries it subscribes by itself only while the tap is away."""
        self.run_id = run_id
        self.trouble: HatchetError | None = None
        self.pair = pair
        self._upstream = upstream
        self._publish = publish
        self._clock = clock or LoopClock()
        self._watch = watch or RunWatch()
        self._bridges = bridges or Bridges()
        self._rng = rng or Random()
        settings = settings or RunSettings()
        self._history = History(run_id, has_past=upstream.has_history, check_after=settings.check_after)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wires: list[Wire] = []
        self._bridge: Wire | None = None
        self._bridge_until = 0.0
        self._bridged: frozenset[tuple[str, int, int]] = frozenset()
        self._bridge_losses = 0
        self._outside: dict[str, Line] = {}
        self._backoff = Backoff(self._rng)
        self._core_reading = self._past_reading = False
        self._second_look: float | None = None
        self._opened = asyncio.Event()
        self._answers: list[asyncio.Future[CoreState]] = []
        self._sleeper: asyncio.Task[None] | None = None
        self._sleeps_until = float("inf")
        self._started = self._closed = False
        self._counted = (0, 0)
        self._reopen = True  # a subscription is missing
        self._untapped_at = float("-inf")

    # -- from outside --

    @property
    def over(self) -> bool:
        """Whether the verified end has been told."""
        return self._history.over

    @property
    def state(self) -> CoreState | None:
        """The last core state, where there is one."""
        return self._history.core_state

    def start(self) -> None:
        """Begin: subscribe, then look."""
        if self._started or self._closed:
            return
        self._started = True
        now = self._clock.now()
        self._history.core_look.want(now)
        self._attend()

    async def known(self) -> CoreState:
        """The first core state. Raises RunUnknown, HatchetAway, TokenRefused, RateLimited as things stand."""
        if self.state is not None:
            return self.state
        if self._closed:
            raise HatchetAway("the run was closed")
        if self.trouble is not None and self._history.core_look.held_off(self._clock.now()):
            raise self.trouble
        answer: asyncio.Future[CoreState] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.start()
        self._history.core_look.want(self._clock.now())
        self._attend()
        try:
            return await answer
        finally:
            if answer in self._answers:
                self._answers.remove(answer)

    def deliver(self, event: LiveEvent, source: str = "tap") -> None:
        """An event of this run from a subscription that is not its own; others' are passed over."""
        if self._closed or event.run_id != self.run_id:
            return
        if source not in self._outside:
            self.feed(source)
        line = self._outside.get(source)
        if line is not None:
            self._deliver(line, event)

    def feed(self, source: str = "tap") -> None:
        """A subscription that is not this run's own brings its events from now on."""
        if source not in self._outside and not self._closed and not self.over and self._carries(source):
            self._outside[source] = self._history.opened(self._clock.now(), ordered=False)
            self._attend()

    def _carries(self, source: str) -> bool:
        """Whether the run is one that the tap tells of, as far as is known."""
        state = self.state
        if source != "tap" or self.pair is None or state is None:
            return True
        key, value = self.pair
        return state.metadata.get(key) == value

    @property
    def caught_up(self) -> bool:
        """Whether the run's own subscription tells all that others told it, or there is nothing to tell."""
        return self.over or self._closed or self._history.caught_up

    def unfeed(self, source: str = "tap", *, broken: bool = True) -> None:
        """That subscription is over; `broken`: it may have missed something."""
        line = self._outside.pop(source, None)
        if line is not None and not self._closed:
            now = self._clock.now()
            if broken:
                self._untapped_at = now
            cause = GapCause.UPSTREAM if broken else None
            self._history.closed(line, now, cause, later=self._rng.uniform(0.0, SPREAD))
            self._flush()
            self._attend()

    async def close(self) -> None:
        """Cancel all, wait for it; nothing is published after that."""
        self._closed = True
        tasks = [task for task in (*self._tasks, self._sleeper) if task is not None]
        for task in tasks:
            task.cancel()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(HatchetAway("the run was closed"))
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- what is due --

    def _attend(self) -> None:
        """Do all that is due, and see to it that the next is."""
        if self._closed or not self._started:
            return
        now = self._clock.now()
        history = self._history
        if history.due is not None and history.due <= now:
            history.tick(now)
            self._flush()
        if history.over:
            self._finish()
            return
        self._look(now)
        times = [self._subscribe(now), self._span(now), history.due]
        if not self._core_reading:
            times.append(history.core_look.at)
        if not self._past_reading:
            times.append(history.past_look.at)
        self._flush()
        self._sleep(now, [time for time in times if time is not None])

    def _look(self, now: float) -> None:
        history = self._history
        if not self._core_reading and history.core_look.at is not None and history.core_look.at <= now:
            history.core_look.asking(now)
            self._core_reading = True
            self._spawn(self._read_core())
        if not self._past_reading and history.past_look.at is not None and history.past_look.at <= now:
            history.past_look.asking(now)
            self._past_reading = True
            self._spawn(self._read_past())

    def _subscribe(self, now: float) -> float | None:
        """See to it that there is a subscription by run id, or the tap; when to do so again."""
        if self._tapped(now):
            self._drop(list(self._wires))
            self._reopen = True
            self._second_look = None
            return self._untapped_at + TAP_PATIENCE if "tap" not in self._outside and self.state else None
        drop, choice = choose(self._wires, now)
        self._drop(drop)
        if self._second_look is not None and now >= self._second_look:
            self._second_look = None
            if self._history.young and len(self._wires) == 1 and not self._wires[0].spoke:
                self._open(now)
                choice = choose(self._wires, now)[1]
        if any(wire.spoke for wire in self._wires):
            self._reopen = False
        elif self._reopen and len(self._wires) < MOST - 1:
            if now < self._backoff.at:
                return earliest(choice, self._second_look, self._backoff.at)
            self._reopen = False
            self._open(now)
        return earliest(choice, self._second_look)

    def _tapped(self, now: float) -> bool:
        """Whether the tap brings this run's events, or will in a moment."""
        if self.pair is None:
            return False
        if self.state is None:
            return True
        if not self._carries("tap"):
            line = self._outside.pop("tap", None)
            if line is not None:
                self._history.closed(line, now, None)
            return False
        return "tap" in self._outside or now < self._untapped_at + TAP_PATIENCE

    def _open(self, now: float, *, fresh: bool = False) -> None:
        wire = Wire(now, fresh=fresh)
        self._wires.append(wire)
        wire.task = self._spawn(self._follow(wire))

    def _drop(self, wires: list[Wire]) -> None:
        for wire in wires:
            self._wires.remove(wire)
            if wire.task is not None:
                wire.task.cancel()
            if wire.line is not None:
                self._history.closed(wire.line, self._clock.now(), None)

    def _span(self, now: float) -> float | None:
        """Bridge the engine's silences, and only those; when to look again."""
        needs = self._history.needs if not self._outside else frozenset()
        if self._bridge is not None and (not needs or now >= self._bridge_until):
            self._burn(now)
        new = needs - self._bridged
        if not new:
            return self._bridge_until if self._bridge is not None else None
        if any(attempt > 1 for _, attempt, _ in new) and len(self._wires) == 1 and self._wires[0].spoke:
            self._open(now, fresh=True)
        state = self.state
        trace = state.metadata.get(TRACE) if state is not None else None
        if isinstance(trace, str) and trace:
            if self._bridge is None and not self._bridges.take():
                return now + BRIDGE_PAUSE
            if self._bridge is None:
                self._bridge = bridge = Wire(now)
                bridge.task = self._spawn(self._cross(bridge, trace))
                bridge.task.add_done_callback(lambda _: self._bridges.give())
            self._bridge_until = now + BRIDGE_SECONDS
        self._bridged |= new
        return self._bridge_until if self._bridge is not None else None

    def _burn(self, now: float) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge is not None and bridge.task is not None:
            bridge.task.cancel()
        if bridge is not None and bridge.line is not None:
            self._history.closed(bridge.line, now, None)

    def _sleep(self, now: float, times: list[float]) -> None:
        at = max(min(times, default=float("inf")), now + NAP)
        if at == float("inf") or (self._sleeper is not None and self._sleeps_until <= at):
            return
        if self._sleeper is not None:
            self._sleeper.cancel()
        self._sleeps_until = at
        self._sleeper = asyncio.get_running_loop().create_task(self._wake(at - now))

    async def _wake(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._sleeper = None
        self._sleeps_until = float("inf")
        self._attend()

    def _finish(self) -> None:
        """The end has been told: nothing is asked of Hatchet any more."""
        if self._sleeper is not None:
            self._sleeper.cancel()
            self._sleeper = None
        for task in self._tasks:
            task.cancel()
        self._wires.clear()
        self._bridge = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- subscriptions --

    async def _follow(self, wire: Wire) -> None:
        def opened() -> None:
            if wire.line is None:
                wire.line = self._history.opened(self._clock.now(), ordered=True)
                self._opened.set()
                self._attend()

        def deliver(event: LiveEvent) -> None:
            if wire.line is None:
                opened()
            if event.hangup:
                wire.hung_up = True
            if wire.line is not None and wire in self._wires:
                self._deliver(wire.line, event)

        self._watch.subscribed("run", +1)
        cause = GapCause.UPSTREAM
        try:
            cause = await self._guarded(self._upstream.follow(self.run_id, deliver, opened))
        finally:
            self._watch.subscribed("run", -1)
            if wire in self._wires and not self._closed and not self._history.over:
                self._ended(wire, cause)

    def _ended(self, wire: Wire, cause: GapCause) -> None:
        now = self._clock.now()
        self._wires.remove(wire)
        self._reopen = True
        self._backoff.ended(now, hung_up=wire.hung_up, lasted=now - wire.opened_at)
        if wire.line is not None:
            later = 0.0 if wire.hung_up else self._rng.uniform(0.0, SPREAD)
            self._history.closed(wire.line, now, cause, later=later)
        self._opened.set()
        self._flush()
        self._attend()

    async def _cross(self, bridge: Wire, trace: str) -> None:
        def opened() -> None:
            if bridge.line is None:
                bridge.line = self._history.opened(self._clock.now(), ordered=False)
                self._attend()

        def deliver(event: LiveEvent) -> None:
            if event.run_id != self.run_id:
                return
            if bridge.line is None:
                opened()
            if bridge.line is not None and bridge is self._bridge:
                self._deliver(bridge.line, event)

        self._watch.subscribed("bridge", +1)
        cause = GapCause.UPSTREAM
        try:
            cause = await self._guarded(self._upstream.follow_metadata(TRACE, trace, deliver, opened))
        finally:
            self._watch.subscribed("bridge", -1)
            if bridge is self._bridge and not self._closed and not self._history.over:
                self._bridge = None
                self._bridge_losses += 1
                if self._bridge_losses <= BRIDGE_LOSSES:
                    self._bridged = frozenset()
                if bridge.line is not None:
                    self._history.closed(bridge.line, self._clock.now(), cause if not self._wires else None)
                self._flush()
                self._attend()

    async def _guarded(self, following: Coroutine[Any, Any, None]) -> GapCause:
        """Follow until it ends; why chunks may be missing then."""
        try:
            await following
        except MessageTooLarge:
            return GapCause.TOO_LARGE
        except BadChunk:  # it ends every line, one after the other: each may be replaced before the next ends
            self._history.lost_chunk(self._clock.now())
        except RunUnknown:
            pass
        except PASSING as trouble:
            self.trouble = trouble
        except HatchetError as trouble:
            self.trouble = trouble
        return GapCause.UPSTREAM

    def _deliver(self, line: Line, event: LiveEvent) -> None:
        history = self._history
        now = self._clock.now()
        if not history.stirred and (told := history.flow(line, event, now)) is not None:
            self._publish((told,))
            return
        history.live(line, event, now)
        if history.stirred:
            history.stirred = False
            if self.trouble is not None:
                self.trouble = None
                history.core_look.answered()
            if event.step_run_id is not None:
                self._backoff.spoke()
            self._flush()
            self._attend()
        else:
            items = history.take()
            if items:  # nothing where it was a double
                self._publish(items)

    def _flush(self) -> None:
        history = self._history
        items = history.take()
        if items:
            self._count(items)
            self._publish(items)
        ends, late = self._counted
        for _ in range(history.false_ends - ends):
            self._watch.false_end()
        if history.late > late:
            self._watch.late_chunk(history.late - late)
        self._counted = (history.false_ends, history.late)

    def _count(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Event):
                continue
            if isinstance(item, StepGap):
                self._watch.gap(item.cause, item.missed)
            elif isinstance(item, Reset):
                self._watch.reset()
            elif isinstance(item, End):
                self._watch.ended(item.status)

    # -- look-ups --

    async def _read_core(self) -> None:
        try:
            if self.state is None and self.pair is None and not self._opened.is_set():
                await self._opened_or(OPEN_PATIENCE)
            self._watch.lookup("core")
            state = await self._upstream.core(self.run_id)
        except HatchetError as trouble:
            self._core_reading = False
            self._no_core(trouble)
        except BaseException:
            self._core_reading = False
            raise
        else:
            self._core_reading = False
            self._got_core(state)

    async def _opened_or(self, seconds: float) -> None:
        waiting = {
            asyncio.ensure_future(self._opened.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _got_core(self, state: CoreState) -> None:
        now = self._clock.now()
        first = self.state is None
        if self.trouble is not None:  # Hatchet is back
            self.trouble = None
            self._backoff.at = min(self._backoff.at, now + self._rng.uniform(0.0, SPREAD))
        self._history.core_look.answered()
        self._history.core(state, now)
        if first and not state.done:
            self._second_look = now + SECOND_LOOK
        self._flush()
        for answer in self._answers:
            if not answer.done():
                answer.set_result(state)
        self._answers.clear()
        self._attend()

    def _no_core(self, trouble: HatchetError) -> None:
        now = self._clock.now()
        if isinstance(trouble, PASSING):
            self.trouble = trouble
            self._history.core_look.away(now, self._rng.uniform(0.5, 1.0))
        else:
            self._history.core_look.again(now)
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(trouble)
        self._answers.clear()
        self._attend()

    async def _read_past(self) -> None:
        try:
            self._watch.lookup("past")
            state = await self._upstream.past(self.run_id)
        except HistoryAway:
            self._past_reading = False
            self._history.past_away(self._clock.now(), self._rng.uniform(0.5, 1.0))
        except HatchetError:
            self._past_reading = False
            self._history.past_away(self._clock.now(), self._rng.uniform(0.5, 1.0))
        except BaseException:
            self._past_reading = False
            raise
        else:
            self._past_reading = False
            self._history.past(state, self._clock.now())
        self._flush()
        self._attend()
