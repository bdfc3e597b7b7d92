"""Looking: a run's look-ups: the core state, the history, and who waits for the first."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.core.events import CoreState
from proxy.hatchet.errors import HatchetError, HistoryAway
from proxy.runs.telling import PASSING, Telling
from proxy.runs.wires import SPREAD

SECOND_LOOK: Final = 0.1  # seconds after the first: a subscription opened by then binds at once
OPEN_PATIENCE: Final = 0.5  # seconds that the first look waits for the subscription to be on the wire


class Looking(Telling):
    """Asks when the history wants to know; an answer that does not come is asked for again."""

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
