"""An EventSource for tests, without a browser. It follows the HTML standard exactly.

After a network error or the end of a 200 it reconnects, with its cursor and after the stream's `retry`. It
stops for good at 204. Every other status is final and raised as `Refused`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

BOM: Final = b"\xef\xbb\xbf"
DEFAULT_RETRY: Final = 3.0  # seconds; Chromium's


@dataclass(frozen=True, slots=True)
class Frame:
    """One dispatched SSE event: `event` is "message" where the stream names none."""

    event: str
    data: str
    id: str = ""

    @property
    def value(self) -> Any:
        return json.loads(self.data)


class Parser:
    """Bytes to frames, line by line as the HTML standard's section 9.2.6 says; the retry hint on the side."""

    def __init__(self, last_event_id: str = "") -> None:
        self.retry: int | None = None  # milliseconds
        self.last_event_id = last_event_id
        self.comments = 0
        self._rest = b""
        self._begun = False
        self._event = ""
        self._data: list[str] = []
        self._id = last_event_id

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Frames that are whole now; what is not waits for more."""
        self._rest += chunk
        if not self._begun and BOM.startswith(self._rest[:3]) and len(self._rest) < 3:
            return
        if not self._begun:
            self._rest = self._rest.removeprefix(BOM)
            self._begun = True
        lines = self._rest.replace(b"\r\n", b"\n")
        held = b"\r" if lines.endswith(b"\r") else b""  # its newline may still come
        *whole, rest = lines.removesuffix(held).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held
        for line in whole:
            if not line:
                yield from self._dispatch()
            else:
                self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        if line.startswith(":"):
            self.comments += 1
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)

    def _dispatch(self) -> Iterator[Frame]:
        self.last_event_id = self._id
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        if data:
            yield Frame(event, "\n".join(data), self._id)


class Refused(Exception):
    """The answer was no stream: an EventSource would fail for good."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body[:200]}")
        self.status = status
        self.body = body


class EventSource:
    """Frames of a URL, across as many connections as it takes."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        last_event_id: str = "",
        patience: float = 1.0,
    ) -> None:
        self.url = url
        self.headers = dict(headers or {})
        self.last_event_id = last_event_id
        self.retry = DEFAULT_RETRY
        self.patience = patience  # a factor on every wait: tests need not be as patient as browsers
        self.connections = 0
        self.comments = 0
        self._session: aiohttp.ClientSession | None = None
        self._frames: AsyncGenerator[Frame, None] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=10))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._frames is not None:
            await self._frames.aclose()
        if self._session is not None:
            await self._session.close()

    def frames(self) -> AsyncGenerator[Frame, None]:
        """Every frame until the server says 204. Raises Refused."""
        self._frames = self._connections()
        return self._frames

    async def _connections(self) -> AsyncGenerator[Frame, None]:
        while True:
            try:
                async with aclosing(self._connection()) as frames:
                    async for frame in frames:
                        yield frame
            except StreamOver:
                return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(self.retry * self.patience)

    async def _connection(self) -> AsyncGenerator[Frame, None]:
        assert self._session is not None, "use it as an async context"
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **self.headers}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        async with self._session.get(self.url, headers=headers) as answer:
            self.connections += 1
            if answer.status == 204:
                raise StreamOver
            if answer.status != 200 or answer.content_type != "text/event-stream":
                raise Refused(answer.status, await answer.text())
            parser = Parser(self.last_event_id)
            async for chunk in answer.content.iter_any():
                frames = list(parser.feed(chunk))
                for frame in frames:
                    self.last_event_id = frame.id
                    yield frame
                self._note(parser)

    def _note(self, parser: Parser) -> None:
        self.last_event_id = parser.last_event_id
        self.comments += parser.comments
        parser.comments = 0
        if parser.retry is not None:
            self.retry = parser.retry / 1000


class StreamOver(Exception):
    """204: nothing more will ever come."""
