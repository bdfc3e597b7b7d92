"""A stream as one JSON document: what it has sent so far (a snapshot), or since a cursor (a long poll).

    GET, Accept: application/json             the messages so far
    GET ?wait=20s&after=CURSOR                the messages after the cursor; waits up to 20 s for the first

The document is made of the frames that a session writes, so it has what an `EventSource` with the same
cursor has received by then. Frames for one connection only (``stream.drain`` and the like) are left out.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from msgspec import Struct

from config.model.units import DURATION, SECONDS
from proxy.access.request_head import RequestHead
from proxy.formats.sse import HEARTBEAT
from proxy.formats.wire import Wire
from proxy.server.http.responses import Headers, HttpResponse, quality
from proxy.streams.session import Session, SinkListener
from proxy.streams.subscriber import Ending

EVENT_STREAM: Final = "text/event-stream"
JSON: Final = "application/json"
HEADERS: Final = (
    (b"content-type", JSON.encode()),
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept"),  # the same URL is a stream for others
)
LONGEST_WAIT: Final = 50.0
"""Seconds of a long poll: nginx and load balancers give up on an answer after 60."""
WAIT_FORM: Final = f"`wait` must be a duration of at most {LONGEST_WAIT:g}s, like 20s"
GATHER: Final = 0.05
"""Seconds that a long poll waits on after its first message, for those that come with it."""
CATCH_UP: Final = 3.0
"""Seconds that a snapshot waits at most for a run that nobody followed until now: its states are read."""
LOOK: Final = 0.02  # seconds between two looks whether that is done


class DocumentRequest(Struct, frozen=True, gc=False):
    """What a client asks for: `wait` in seconds, None for a snapshot; `after` is a cursor's text."""

    wait: float | None
    after: str


class BadDocumentRequest(Exception):
    """The parameters cannot be read; the text is one sentence for the client's developer."""


def document_request(head: RequestHead, wire: Wire) -> DocumentRequest | None:
    """What a client asks for that wants a document; None for one that wants a stream.

    Raises BadDocumentRequest.
    """
    accept = head.headers.get("accept")
    if accept == EVENT_STREAM:  # every EventSource
        return None
    streams = 0.0 if accept is None else quality(accept, EVENT_STREAM)
    parameters = head.parameters
    polls = "wait" in parameters and streams == 0
    asks = accept is not None and wire.json_by_accept and quality(accept, JSON) > streams
    if not polls and not asks:
        return None
    return DocumentRequest(_wait(parameters["wait"]) if polls else None, parameters.get("after", ""))


def _wait(text: str) -> float:
    match = DURATION.fullmatch(text)
    seconds = int(match[1]) * SECONDS[match[2]] if match is not None else -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise BadDocumentRequest(WAIT_FORM)
    return seconds


class Collector:
    """The sink of a session whose frames become a document."""

    def __init__(self) -> None:
        self.listener: SinkListener | None = None
        self.paused = False
        self._bodies: list[bytes] = []
        self._ended = False
        self._changed = asyncio.Event()

    # -- the session writes --

    def begin(self, headers: Headers, body: bytes) -> None:
        """The document has headers of its own, and `body` is a hint for reconnects."""

    def flush(self) -> None:
        """Nothing waits to be sent."""

    def write(self, body: bytes) -> None:
        if body != HEARTBEAT:
            self._bodies.append(body)
            self._changed.set()

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        self.write(body)

    def unsent(self) -> int:
        return 0

    def finish(self) -> None:
        self._ended = True
        self._changed.set()

    def abort(self) -> None:
        self.finish()

    # -- the document --

    async def response(self, session: Session, wait: float | None) -> HttpResponse:
        """The document, once it has messages or `wait` is over; the session has ended then.

        Call it in a task, unless the document is `complete`. A cancelled request ends the session as `LEFT`.
        """
        loop = asyncio.get_running_loop()
        ending = Ending.LEFT
        try:
            deadline = loop.time() + (CATCH_UP if wait is None else wait)
            while not self.complete(session, wait):
                left = deadline - loop.time()
                if left <= 0:
                    break
                await self._change(min(left, LOOK) if wait is None else left)
                if wait is not None and self._bodies and not self._ended:
                    await asyncio.sleep(max(0.0, min(GATHER, deadline - loop.time())))
            ending = Ending.ANSWERED
            body = self._document(session)
        finally:
            session.end(ending)
        return HttpResponse(200, [*HEADERS, (b"content-length", b"%d" % len(body))], body)

    def complete(self, session: Session, wait: float | None) -> bool:
        """Whether the document can be made now; `wait` as for `response`."""
        if self._ended:
            return True
        if session.subscriber.recovering:
            return False
        return session.run.caught_up if wait is None else bool(self._bodies)

    async def _change(self, seconds: float) -> None:
        """Wait until something is written, or the session has ended."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _document(self, session: Session) -> bytes:
        messages = b",".join(
            _messages(b"".join(self._bodies)) if session.wire.framed else _text(b"".join(self._bodies))
        )
        status = orjson.dumps(session.run.status or "running")
        cursor = orjson.dumps(session.subscriber.cursor)
        return b'{"status":%b,"cursor":%b,"messages":[%b]}' % (status, cursor, messages)


def _messages(frames: bytes) -> list[bytes]:
    """``{event, data}`` of each frame that has data and a cursor; data stays byte for byte."""
    found: list[bytes] = []
    for block in frames.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line[1:])
        data = fields.get(b"data")
        if data is not None and b"id" in fields:
            name = orjson.dumps(fields.get(b"event", b"message").decode())
            found.append(b'{"event":%b,"data":%b}' % (name, b'"[DONE]"' if data == b"[DONE]" else data))
    return found


def _text(body: bytes) -> list[bytes]:
    """A stream of plain text as one message."""
    return [b'{"event":"message","data":%b}' % orjson.dumps(body.decode("utf-8", "replace"))] if body else []
