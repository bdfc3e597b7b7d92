"""A client that changes the replica at every frame, with the cursor that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.support.eventsource import Frame, Parser

PAUSE = 0.05  # seconds after a replica that refused


@dataclass
class RoamingClient:
    """Reads one stream to the 204 behind its end; `frames` are in the order in which they came."""

    path: str
    frames: list[Frame] = field(default_factory=list)
    connections: int = 0
    cursor: str = ""

    async def read(self, urls: Sequence[str]) -> None:
        """Read; `urls` are taken in turn, and may change meanwhile."""
        async with aiohttp.ClientSession() as http:
            while True:
                url = urls[self.connections % len(urls)]
                self.connections += 1
                try:
                    self.cursor, over = await self._one_frame(http, url + self.path, self.cursor)
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(PAUSE)
                    continue
                if over:
                    return

    async def _one_frame(self, http: aiohttp.ClientSession, url: str, cursor: str) -> tuple[str, bool]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        async with http.get(url, headers=headers) as answer:
            if answer.status == 204:
                return cursor, True
            assert answer.status == 200, (answer.status, await answer.text())
            parser, found = Parser(cursor), False
            async for piece in answer.content.iter_any():
                for frame in parser.feed(piece):
                    self.frames.append(frame)
                    cursor = frame.id or cursor
                    found = found or frame.event != "stream.gap"  # which repeats the cursor before it
                    if found:
                        return cursor, False
        return cursor, False
