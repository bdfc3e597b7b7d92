"""Session: one client's connection to a stream, from the first byte to the end.

A session owns a subscriber and holds two leases: on the run, and on a place within the limits. It releases
both exactly once, whatever happens first: the run ends, the client leaves, the credentials expire, or the
process drains.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final, Protocol

from msgspec import Struct

from proxy.access.admission import Lease
from proxy.access.entitlement import Entitlement
from proxy.formats.wire import Wire
from proxy.observability.tracing import StreamSpan
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.merged.session import MergedSession
from proxy.streams.message_writer import Start
from proxy.streams.run_session import RunSession
from proxy.streams.subscriber import Ending, Sink, Subscriber

# Names of their own for each client's way: Python 3.11 takes 50 ns to look a member up in its class.
_LEFT: Final = Ending.LEFT
_ABORTED: Final = (Ending.STUCK, Ending.FAILED)


class SinkListener(Protocol):
    """Is notified of a sink's flow control and of its loss."""

    def pause(self) -> None:
        """The sink should not be written to for now."""

    def resume(self) -> None:
        """The sink has room again."""

    def lost(self) -> None:
        """The connection is gone."""


class SessionSink(Sink, Protocol):
    """A response that a session writes to. It notifies its `listener` of flow control."""

    listener: SinkListener | None

    @property
    def paused(self) -> bool:
        """Whether nothing should be written to it for now."""

    def unsent(self) -> int:
        """How many bytes the client has not taken."""

    def finish(self) -> None:
        """End the response; what was written is still sent."""

    def abort(self) -> None:
        """Close the connection at once, whatever is unsent."""


class Sessions:
    """The sessions of this process, and which of them are paused because their client does not keep up."""

    def __init__(self) -> None:
        self._open: set[Session] = set()
        self._paused: set[Session] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._open))

    @property
    def paused(self) -> frozenset[Session]:
        """The paused ones."""
        return frozenset(self._paused)

    def stuck(self, since: float) -> list[Session]:
        """The sessions whose sink has been full since `since` (the loop's time) or longer."""
        return [session for session in self._paused if session.paused_before(since)]

    def add(self, session: Session) -> None:
        """A session begins."""
        self._open.add(session)

    def remove(self, session: Session) -> None:
        """A session is over."""
        self._open.discard(session)
        self._paused.discard(session)

    def pause(self, session: Session) -> None:
        """A client does not keep up."""
        self._paused.add(session)

    def resume(self, session: Session) -> None:
        """It keeps up again."""
        self._paused.discard(session)


class SessionOwner(Protocol):
    """Is notified of a session's end."""

    def session_ended(self, session: Session, ending: Ending) -> None:
        """The client's stream is over, and its lease released."""


class Admitted(Struct, frozen=True):
    """A client that was admitted: to what, and what it was lent.

    At the end `lease` is released, and `owner` releases the run. `client` is an address for the log.
    `expires_in`: seconds until the credentials expire; None for never. `entitlement`: what the client was
    admitted with, None where it is never checked again. `span` is the request's, where there is one; `owner`
    ends it.
    """

    stream: str
    run: RunSession | MergedSession
    lease: Lease
    client: str
    owner: SessionOwner
    expires_in: float | None = None
    entitlement: Entitlement | None = None
    span: StreamSpan | None = None


class Session:
    """One client on one stream of one run."""

    __slots__ = (
        "_dispatcher", "_expiry", "_lease", "_owner", "_sessions", "_sink", "_started_at", "_unsent",
        "client", "entitlement", "run", "span", "stream", "subscriber",
    )  # fmt: skip

    def __init__(
        self,
        dispatcher: Dispatcher,
        sink: SessionSink,
        start: Start,
        admitted: Admitted,
        sessions: Sessions,
    ) -> None:
        """`start` says where the client's frames begin (`Channel.start`)."""
        self.stream = admitted.stream
        self.run = admitted.run
        self.client = admitted.client
        self.entitlement = admitted.entitlement
        self.span = span = admitted.span
        self.subscriber = Subscriber(dispatcher.channel, sink, start, self)
        if span is not None:
            self.subscriber.when_first_frame(span.first_frame)
        self._dispatcher = dispatcher
        self._sink = sink
        self._sessions = sessions
        self._lease = admitted.lease
        self._owner = admitted.owner
        self._started_at = time.monotonic()
        self._unsent = 0  # when the sink was looked at the last time
        self._expiry = None
        if admitted.expires_in is not None:
            seconds = max(0.0, admitted.expires_in)
            self._expiry = asyncio.get_running_loop().call_later(seconds, self.expire)

    def start(self) -> None:
        """Count the client, and write what the channel holds."""
        counts = self._dispatcher.channel.counts
        counts.clients += 1
        counts.opened += 1
        self._sessions.add(self)
        self._sink.listener = self
        if self._sink.paused:
            self.pause()
        self._dispatcher.add(self.subscriber)
        self.subscriber.start()

    @property
    def wire(self) -> Wire:
        """What the stream's format has for a client outside of its frames."""
        return self._dispatcher.channel.wire

    @property
    def seconds(self) -> float:
        """How long it has been open."""
        return time.monotonic() - self._started_at

    def paused_before(self, moment: float) -> bool:
        """Whether its sink has been full since `moment` (the loop's time), and the client has taken no byte.

        To be called regularly: it compares with the call before. A large frame to a slow client keeps the
        sink full for longer than the write timeout, while the client reads all the time.
        """
        since = self.subscriber.paused_since
        if since is None:
            return False
        before, self._unsent = self._unsent, self._sink.unsent()
        if self._unsent < before:
            since = self.subscriber.paused_since = asyncio.get_running_loop().time()
        return since <= moment

    def end(self, ending: Ending, control: bytes = b"") -> None:
        """End it with `ending`; `control` is a last frame for the client."""
        if control:
            self.subscriber.write_control(control)
        self.subscriber.finish(ending)

    # -- flow control --

    def pause(self) -> None:
        self.subscriber.pause(asyncio.get_running_loop().time())
        self._unsent = self._sink.unsent()
        self._sessions.pause(self)

    def resume(self) -> None:
        self._sessions.resume(self)
        self.subscriber.resume()

    def lost(self) -> None:
        self.subscriber.finish(_LEFT)

    # -- the end --

    def expire(self) -> None:
        """End it because the client's credentials are not valid any more."""
        self.end(Ending.EXPIRED, self.wire.notice("expired", {}))

    def subscriber_ended(self, ending: Ending) -> None:
        self._dispatcher.remove(self.subscriber)
        counts = self._dispatcher.channel.counts
        counts.clients -= 1
        counts.ends[str(ending)] += 1
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._sessions.remove(self)
        self._sink.listener = None
        if ending is not _LEFT:
            unfinished = ending is not Ending.END and not self.wire.framed  # a complete body means the end
            if unfinished or ending in _ABORTED:
                self._sink.abort()
            else:
                self._sink.finish()
        self._lease.release()
        self._owner.session_ended(self, ending)
