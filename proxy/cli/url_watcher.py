"""Shows what a running proxy sends at a URL, as its clients see it: connections, frames, gaps, the end.

It reads as an `EventSource` does: it reconnects after the end of a response and after network errors, with
the last cursor and after the stream's `retry` time; 204 ends it, and every other status is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import click

from proxy.cli.commands.event_printer import short

RETRY: Final = 3.0  # seconds before a reconnect, until the proxy says another time
PATIENCE: Final = aiohttp.ClientTimeout(total=None, connect=20.0, sock_read=None)
ENDINGS: Final = frozenset({"stream.end"})
NOTICES: Final = "stream."
DONE: Final = "[DONE]"  # the last data of some formats

Echo = Callable[[str], None]


class BadRequest(ValueError):
    """The URL or a header cannot be used; the text is one sentence for the user."""


@dataclass
class Frames:
    """Reads frames from the lines of responses; `cursor` and `retry` are what the last ones said."""

    cursor: str = ""
    retry: float = RETRY
    _event: str = ""
    _data: list[str] = field(default_factory=list)
    _id: str | None = None

    def begin(self) -> None:
        """A new response: what was half a frame is void."""
        self._event, self._data, self._id = "", [], None

    def line(self, line: str) -> tuple[str, str] | None:
        """The name and data of the frame that `line` completes; None where it completes none."""
        if line:
            self._field(*_parted(line))
            return None
        event, data = self._event or "message", "\n".join(self._data)
        found = bool(self._data)
        self.cursor = self.cursor if self._id is None else self._id
        self.begin()
        return (event, data) if found else None

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000


def _parted(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


async def watch_url(url: str, headers: Sequence[str], echo: Echo) -> int:
    """Print a line for each frame until the run's end; returns the exit status. Raises BadRequest."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest("--url must be a URL like http://127.0.0.1:8080/streams/chat/RUN_ID")
    sent = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **dict(_headers(headers))}
    frames = Frames()
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        while True:
            cursor = {"Last-Event-ID": frames.cursor} if frames.cursor else {}
            try:
                async with session.get(url, headers={**sent, **cursor}) as response:
                    status = await _response(response, frames, echo)
            except aiohttp.InvalidURL:
                raise BadRequest("--url is no URL") from None
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                _note(echo, f"the connection failed: {_reason(error)}")
                status = None
            if status is not None:
                return status
            where = f" with the cursor {frames.cursor}" if frames.cursor else ""
            _note(echo, f"reconnecting in {frames.retry:g} s{where}")
            await asyncio.sleep(frames.retry)


def _headers(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or not name.strip() or not (name + value).isprintable():
            raise BadRequest("--header must be like 'Authorization: Bearer TOKEN'")
        yield name.strip(), value.strip()


async def _response(response: aiohttp.ClientResponse, frames: Frames, echo: Echo) -> int | None:
    """Read one response; the exit status, or None where an EventSource would reconnect."""
    if response.status == 204:
        echo(click.style("204: nothing more to come", bold=True))
        return 0
    if response.status != 200:
        _note(echo, f"HTTP {response.status}: {short((await response.text('utf-8', 'replace')).strip())}")
        return 1
    kind = response.content_type
    _note(echo, f"connected: HTTP 200, {kind}")
    if kind != "text/event-stream":
        async for data in response.content.iter_any():
            echo(data.decode("utf-8", "replace").rstrip("\n"))
        return 0
    frames.begin()
    async for line in _lines(response):
        found = frames.line(line)
        if found is not None:
            _show(echo, *found)
            if found[0] in ENDINGS or found[1] == DONE:
                return 0
    _note(echo, "the response ended")
    return None


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The lines of a response, however long: aiohttp's own reader refuses long ones."""
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").removesuffix("\r")


def _show(echo: Echo, event: str, data: str) -> None:
    if event in ENDINGS:
        echo(click.style(f"{event:14} {data}", bold=True))
    elif event.startswith(NOTICES):
        echo(click.style(f"{event:14} {data}", fg="yellow"))
    else:
        echo(f"{click.style(f'{event:14}', fg='green')} {short(data)}")


def _note(echo: Echo, text: str) -> None:
    echo(click.style(text, fg="bright_black"))


def _reason(error: Exception) -> str:
    """Why, in one line; the errors of aiohttp name the host at most."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
