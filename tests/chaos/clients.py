"""Who reads: EventSources that meet another replica each time, leave, sleep, come back with their cursor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.eventsource import EventSource, Frame
from tests.reference import RunPicture


class Wanderer(EventSource):
    """An EventSource behind a balancer without memory: each connection may be another replica's."""

    def __init__(self, urls: Sequence[str], dice: Random) -> None:
        super().__init__(dice.choice(urls), patience=0.1)
        self._urls, self._dice = urls, dice

    async def _connection(self) -> AsyncGenerator[Frame, None]:
        self.url = self._dice.choice(self._urls)
        frames = super()._connection()
        try:
            async for frame in frames:
                yield frame
        finally:
            await frames.aclose()


@dataclass
class Client:
    """One reader of one run: its picture, and how long it heard nothing."""

    run_id: str
    number: int
    dice: Random
    picture: RunPicture = field(default_factory=RunPicture)
    frames: int = 0
    connections: int = 0
    silence: float = 0.0
    ended_properly: bool = False
    waits: int = 0
    heard: list[Frame] = field(default_factory=list)

    async def read(self, urls: Sequence[str]) -> None:
        """Come at some moment, read to the verified end and the 204 behind it."""
        await asyncio.sleep(self.dice.choice([0.0, 0.0, 0.05, self.dice.uniform(0, 3)]))
        hops = self.dice.choice([0, 0, 0, 1, 3])
        slow = self.dice.random() < 0.1
        async with Wanderer([f"{url}/run/{self.run_id}" for url in urls], self.dice) as source:
            heard_at = time.monotonic()
            while not self.ended_properly:
                hop_after = self.dice.randrange(1, 40) if hops else 0
                hops -= 1 if hops else 0
                frames = source.frames()
                async for frame in frames:
                    self.silence = max(self.silence, time.monotonic() - heard_at)
                    heard_at = time.monotonic()
                    self._take(frame)
                    if slow:
                        await asyncio.sleep(self.dice.uniform(0, 0.05))
                    hop_after -= 1
                    if hop_after == 0:
                        break
                else:
                    self.ended_properly = True  # 204
                await frames.aclose()
            self.connections = source.connections

    def _take(self, frame: Frame) -> None:
        self.frames += 1
        self.heard.append(frame)
        if frame.event == "stream.wait":
            self.waits += 1
        if self.picture.ended and frame.event in ("stream.gap", "stream.wait", "stream.drain"):
            return  # it came back with the end's cursor and met trouble on the way to its 204
        self.picture.frame(frame)
