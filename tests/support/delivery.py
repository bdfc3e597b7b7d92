"""Runs on an engine with all quirks, and clients that record what they receive.

A `RecordingClient` is an EventSource in the background: it keeps each frame, the time when it came, and the
picture that the frames make. `once` reads one connection to its end. `SlowSocket` reads only when asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from proxy.simulator import Engine
from proxy.simulator.script.model import Failure, Script, Step, Workflow, script
from tests.chaos.world import streams, truth
from tests.support.eventsource import EventSource, Frame, Parser
from tests.support.reference import RunPicture, Truth, judge
from tests.support.waiting import until

EVERYTHING: Final = """
      - events: ["*", step_stream]
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered,
               at: at}
"""


def yaml(
    *,
    server: str = "{linger: 5s, drain: {grace: 3s, spread: 1s}}",
    hatchet: str = "",
    stream: str = "",
    more: str = "",
) -> str:
    """A file with one stream `all` of everything at ``/run/…``; `more` are further streams."""
    return f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"{hatchet}}}
server: {server}
streams:
  all:
    path: /run/{{workflowRunId}}
    retry: 1s
    wait_for_run: 2s
    {stream}
    rules: {EVERYTHING}
{more}
"""


def workflows(**quirks: bool) -> Script:
    """Runs that last for seconds; each chunk says its step, attempt and index."""
    return script(
        Workflow("talk", (Step("talk", chunks=streams("talk", 40, 0.05), output={"said": 40}),)),
        Workflow("brief", (Step("brief", chunks=streams("brief", 8, 0.02), output={"said": 8}),)),
        Workflow("open", (Step("open", takes=1e6, timeout=2e6),)),
        Workflow(
            "dag",
            (
                Step("start", takes=0.1, output={"a": 1}),
                Step("write", ("start",), chunks=streams("write", 40, 0.05), output={"b": 2}),
                Step("last", ("write",), chunks=streams("last", 5, 0.02), output={"c": 3}),
            ),
        ),
        Workflow(
            "middle",
            (
                Step("start", takes=0.1, output={"a": 1}),
                Step("write", ("start",), chunks=streams("write", 60, 0.05), output={"b": 2}),
            ),
        ),
        Workflow(
            "long",
            (
                Step("start", takes=0.1, output={"a": 1}),
                Step("write", ("start",), chunks=streams("write", 120, 0.05), output={"b": 2}),
            ),
        ),
        Workflow(  # ends when the test cancels it
            "endless",
            (
                Step("start", takes=0.1, output={"a": 1}),
                Step("write", ("start",), chunks=streams("write", 2000, 0.05), output={"b": 2}),
            ),
        ),
        Workflow(
            "retry",
            (
                Step("before", takes=0.1, output={"a": 1}),
                Step(
                    "twice",
                    ("before",),
                    chunks=streams("twice", 12, 0.05),
                    fails=Failure("ValueError: once", attempts=1),
                    retries=2,
                    output={"b": 2},
                ),
            ),
        ),
        Workflow(
            "wide",
            (
                Step("root", takes=0.05, output={"r": 0}),
                *(_leaf(number) for number in range(12)),
            ),
        ),
        **quirks,
    )  # fmt: skip


def _leaf(number: int) -> Step:
    name = f"leaf{number}"
    return Step(name, ("root",), chunks=streams(name, 6, 0.02), output={"n": number})


def true_of(engine: Engine, run_id: str) -> Truth:
    """The truth of a run that is over."""
    return truth(engine, run_id, defaultdict(list))


class RecordingClient:
    """An EventSource that reads until 204, in the background."""

    def __init__(
        self, url: str, *, cursor: str = "", headers: Mapping[str, str] | None = None, patience: float = 0.1
    ) -> None:
        self.source = EventSource(url, headers=headers, last_event_id=cursor, patience=patience)
        self.frames: list[Frame] = []
        self.times: list[float] = []
        self.picture = RunPicture()
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.source.__aenter__()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reading is not None
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await self.source.__aexit__(kind, error, trace)

    async def _read(self) -> None:
        async for frame in self.source.frames():
            self.frames.append(frame)
            self.times.append(time.monotonic())
            if not self.picture.ended:
                self.picture.frame(frame)
            self._news.set()
        self._news.set()

    async def until(self, true: Callable[[RecordingClient], object], seconds: float = 30) -> None:
        """Wait until something is true of what was received."""
        assert self._reading is not None
        async with asyncio.timeout(seconds):
            while not true(self):
                assert not self._reading.done(), (
                    f"the stream is over: {[frame.data[:90] for frame in self.frames]}"
                )
                self._news.clear()
                await self._news.wait()

    async def end(self, seconds: float = 50) -> Self:
        """Wait for the verified end and the 204 behind it."""
        assert self._reading is not None
        async with asyncio.timeout(seconds):
            await self._reading
        return self

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return chunks(self.frames)

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return gaps(self.frames)

    def judge(self, engine: Engine, run_id: str) -> list[str]:
        """What is wrong with the picture and not announced."""
        return judge(self.picture, true_of(engine, run_id))


def events(frames: list[Frame]) -> list[dict[str, Any]]:
    """What the rules forwarded."""
    return [frame.value for frame in frames if not frame.event.startswith("stream.")]


def chunks(frames: list[Frame]) -> list[dict[str, Any]]:
    return [event for event in events(frames) if event["type"] == "step_stream"]


def lasting(frames: list[Frame]) -> list[tuple[str, str | None]]:
    """The lifecycle events, as type and step."""
    return [(event["type"], event["step"]) for event in events(frames) if event["type"] != "step_stream"]


def own_gaps(frames: list[Frame]) -> list[dict[str, Any]]:
    """The gaps that are the proxy's doing; what the engine lost is another matter."""
    return [gap for gap in gaps(frames) if gap["cause"] in OURS]


def gaps(frames: list[Frame]) -> list[dict[str, Any]]:
    return [frame.value for frame in frames if frame.event == "stream.gap"]


OURS: Final = frozenset({"backlog", "slow_client", "unknown_cursor"})


def causes(frames: list[Frame]) -> list[str]:
    return [gap["cause"] for gap in gaps(frames)]


@contextlib.asynccontextmanager
async def answer(
    url: str, *, cursor: str | None = None, query: str | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """One GET, with the cursor in the header, in the query, in both."""
    headers = {"Accept": "text/event-stream"} | ({} if cursor is None else {"Last-Event-ID": cursor})
    params = {} if query is None else {"last_event_id": query}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, params=params) as response,
    ):
        yield response


async def once(
    url: str,
    *,
    cursor: str | None = None,
    query: str | None = None,
    count: int | None = None,
    until: Callable[[Frame], bool] | None = None,
) -> list[Frame]:
    """One connection to its end, to `count` frames, or to the first of which `until` is true."""
    taken: list[Frame] = []
    async with answer(url, cursor=cursor, query=query) as response, asyncio.timeout(30):
        assert response.status == 200, (response.status, await response.text())
        parser = Parser(cursor or "")
        async for piece in response.content.iter_any():
            for frame in parser.feed(piece):
                taken.append(frame)
                if len(taken) == count or (until is not None and until(frame)):
                    return taken
    return taken


async def status(url: str, *, cursor: str | None = None, query: str | None = None) -> int:
    async with answer(url, cursor=cursor, query=query) as response:
        return response.status


async def becomes(true: Callable[[], object]) -> None:
    """Wait for something that another task does."""
    await until(true)


def config(folder: Path, text: str, name: str = "streams.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


class SlowSocket:
    """A client's socket with the smallest receive buffer; it reads only when `read` is called."""

    def __init__(self, url: str, path: str) -> None:
        self.port = int(url.rpartition(":")[2])
        self._path = path
        self.received = b""
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.sock.setblocking(False)

    async def open(self, until: bytes = b"retry: ", version: str = "1.1") -> Self:
        """Connect, ask in this version of HTTP, and read no more than the beginning."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.sock, ("127.0.0.1", self.port))
        ask = f"GET {self._path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(self.sock, ask.encode())
        while until not in self.received:
            if not await self.read(256):
                raise ConnectionError("closed before it began")
        return self

    async def read(self, size: int = 65536) -> bytes:
        """Some bytes; empty at the end."""
        try:
            piece = await asyncio.get_running_loop().sock_recv(self.sock, size)
        except ConnectionError:
            piece = b""
        self.received += piece
        return piece

    async def read_all(self) -> list[Frame]:
        """The rest of the response, as frames."""
        while await self.read():
            pass
        return self.frames

    @property
    def frames(self) -> list[Frame]:
        """What has come so far (a response without its head and its chunks' lengths)."""
        _, _, body = self.received.partition(b"\r\n\r\n")
        whole = b""
        while body:
            length, _, rest = body.partition(b"\r\n")
            size = int(length or b"0", 16)
            whole += rest[:size]
            body = rest[size + 2 :]
        return list(Parser().feed(whole))

    def close(self) -> None:
        self.sock.close()
