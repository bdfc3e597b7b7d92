"""Stay: one client's stream from its first byte to its ending, and all that was lent for it.

A stay holds a place in a channel (`Reader`), a run (lease), a place within the limits, and the connection.
It is told by both ends: the connection pauses, resumes or is lost; the reader comes to an ending. Whatever
happens first, all is given back once, and one line is written.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from proxy.core.events import GapCause
from proxy.formats import sse
from proxy.streams.subscriber import Ending, Reader, Sink

if TYPE_CHECKING:
    from proxy.access.admission import Lease
    from proxy.streams.channel import Channel
    from proxy.streams.run_session import Life
    from proxy.teams.hub import Hub
    from proxy.teams.team import Team


class StaySink(Sink, Protocol):
    """A sink that can be ended."""

    @property
    def paused(self) -> bool:
        """Whether it should not be written to for now."""

    def finish(self) -> None:
        """The stream is over; what was written is still sent."""

    def abort(self) -> None:
        """Close at once."""


class Stay:
    """One client on one stream of one run."""

    __slots__ = (
        "_began",
        "_expiry",
        "_hub",
        "_lease",
        "_life",
        "_sink",
        "_stream",
        "_team",
        "client",
        "reader",
    )

    def __init__(
        self,
        hub: Hub,
        team: Team,
        sink: StaySink,
        *,
        stream: str,
        life: Life,
        lease: Lease,
        channel: Channel,
        place: int,
        gap: GapCause | None,
        client: str,
        expires_in: float | None,
    ) -> None:
        """`expires_in`: seconds until the credentials' time is over; None for no end."""
        self._hub = hub
        self._team = team
        self._stream = stream
        self._life = life
        self._lease = lease
        self._sink = sink
        self.client = client
        self._began = time.monotonic()
        self.reader = Reader(channel, sink, place, over=self._over, gap=gap)
        self._expiry = None
        if expires_in is not None:
            self._expiry = asyncio.get_running_loop().call_later(max(0.0, expires_in), self._expire)

    def begin(self) -> None:
        """Be counted, and write what is there."""
        counts = self.reader.channel.counts
        counts.clients += 1
        counts.opened += 1
        self._hub.stays.add(self)
        if self._sink.paused:
            self.pause()
        self.reader.begin()
        if self._hub.draining:
            self._hub.farewell(self)

    def say_last(self, body: bytes, ending: Ending) -> None:
        """Write a last control frame and end."""
        self.reader.say(body)
        self.reader.finish(ending)

    def abort(self) -> None:
        """End a stay whose client takes nothing any more."""
        self.reader.finish(Ending.STUCK)

    # -- the connection tells --

    def pause(self) -> None:
        """The client does not keep up."""
        self.reader.pause(asyncio.get_running_loop().time())
        self._hub.paused.add(self)

    def resume(self) -> None:
        """It does again."""
        self._hub.paused.discard(self)
        self.reader.resume()

    def lost(self) -> None:
        """The client is gone."""
        self.reader.finish(Ending.LEFT)

    # -- the ending --

    def _expire(self) -> None:
        self.say_last(sse.control("expired", {}), Ending.EXPIRED)

    def _over(self, ending: Ending) -> None:
        counts = self.reader.channel.counts
        counts.clients -= 1
        name = str(ending)
        counts.ends[name] += 1
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._hub.stays.discard(self)
        self._hub.paused.discard(self)
        if ending is Ending.STUCK:
            self._sink.abort()
        elif ending is not Ending.LEFT:
            self._sink.finish()
        self._lease.release()
        self._team.runs.release(self._life)
        self._hub.event_log.stream_over(
            team=self._team.name,
            stream=self._stream,
            run=self._life.run_id,
            client=self.client,
            seconds=time.monotonic() - self._began,
            frames=self.reader.frames,
            ending=name,
            traceparent=self._life.traceparent,
        )
