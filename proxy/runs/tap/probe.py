"""TapProbe: notices that Hatchet keeps the tap's subscription open and brings nothing on it.

With Postgres as its queue, the engine learns of chunks and events over one connection to its database. When
that breaks, the engine connects again after 10 s, keeps every subscription open, and loses what is sent in
between. Nothing shows that loss if the step streams nothing more and ends later:

    chunk ── the connection breaks ── chunks, lost ── 10 s ── connected again ── the step's end: whole?
                       └── silence ── probe ── no echo ──▶ the tap is deaf: from here on it proves nothing

So a tap that is silent while runs go on sends the chunk of `TapKeepalive` and expects it back. Seen on a
running engine; source: pkg/repository/multiplexer.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.core.clock import Clock
from proxy.runs.observer import Observer
from proxy.runs.reconcile.subscription_state import Pulse

SILENT: Final = 4.0  # seconds without an event until a probe is sent; less than the engine's 10 s
ECHO: Final = 2.0  # seconds until it must be back, beside the lag of chunks
DEAF: Final = 1.0  # seconds between two probes of a deaf tap


class TapProbe:
    """Probes the tap while `busy()`; calls `deaf` when a probe does not come back.

    `pulse`: when the tap last brought an event. `send` sends a probe, and returns whether it was sent. `lag`:
    how many seconds chunks lag behind now.
    """

    def __init__(
        self,
        pulse: Pulse,
        clock: Clock,
        observer: Observer,
        *,
        busy: Callable[[], bool],
        send: Callable[[], Awaitable[bool]],
        lag: Callable[[], float],
        deaf: Callable[[], object],
    ) -> None:
        self._pulse = pulse
        self._clock = clock
        self._observer = observer
        self._busy = busy
        self._send = send
        self._lag = lag
        self._deaf = deaf
        self._since = float("-inf")  # when it was opened, or brought a probe
        self._task: asyncio.Task[None] | None = None

    def echoed(self) -> None:
        """The tap has brought a probe."""
        self._since = self._clock.now()

    def opened(self) -> None:
        """The subscription is open."""
        self.close()
        self._since = self._clock.now()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> asyncio.Task[None] | None:
        """Stop; returns the task that ends, to be awaited."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    @property
    def _heard_at(self) -> float:
        return max(self._since, self._pulse.at)

    async def _watch(self) -> None:
        ask_at = self._since + SILENT
        while True:
            await self._clock.sleep(ask_at - self._clock.now())
            now = self._clock.now()
            if now < self._heard_at + SILENT:
                ask_at = self._heard_at + SILENT
                continue
            try:
                echoes = not self._busy() or not await self._send() or await self._echo(now)
            except Exception as error:  # else the tap would not be probed any more
                self._observer.unforeseen(error)
                echoes = True
            if echoes:
                ask_at = max(self._heard_at, now) + SILENT
            else:
                self._deaf()
                ask_at = self._clock.now() + DEAF

    async def _echo(self, sent_at: float) -> bool:
        """Whether anything came since `sent_at`, as soon as a probe must be back."""
        await self._clock.sleep(ECHO + self._lag())
        return self._heard_at >= sent_at
