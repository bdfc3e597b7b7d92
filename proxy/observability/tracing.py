"""The interface of a tracer: streams, and calls to Hatchet. `proxy.observability.otel` implements it.

Where tracing is off there is no tracer (None), so that nothing is made or imported for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct


class Notice(Struct, frozen=True, gc=False):
    """Gaps of one cause, or resets, that a client was sent; `at` in nanoseconds since the epoch."""

    at: int
    cause: str | None  # of a gap; None: it is a reset
    count: int = 1


class StreamStart(Struct, frozen=True):
    """A request for a stream; `headers` have names in lower case, `address` is the client's."""

    team: str
    stream: str
    method: str
    route: str
    scheme: str
    address: str
    headers: Mapping[str, str]


class StreamSpan(Protocol):
    """The span of one request for a stream. It ends with `answered`, `left` or `ended`."""

    @property
    def ids(self) -> Mapping[str, str]:
        """`trace_id` and `span_id`, for log lines."""

    def make_current(self) -> None:
        """Make it the parent of the calls to Hatchet that begin in this context, and in its tasks."""

    def answered(self, status: int) -> None:
        """The request was answered with `status` and got no stream."""

    def left(self) -> None:
        """The client left, or the request failed, before it was answered."""

    def began(self, *, run_id: str, traceparent: str | None, resumed: bool) -> None:
        """A stream of a run began. `traceparent`: the run's own trace; `resumed`: at a cursor."""

    def first_frame(self) -> None:
        """The first frame was written."""

    def ended(self, ending: str, *, frames: int, notices: Sequence[Notice], failed: bool) -> None:
        """The stream is over; `notices` are the gaps and resets that the client was sent."""


class CallSpan(Protocol):
    """The span of one call to Hatchet."""

    def opened(self) -> None:
        """A subscription is open."""

    def of_run(self, traceparent: object) -> None:
        """The call belongs to a run with this trace, if that is a valid traceparent."""


class Tracer(Protocol):
    """Makes spans."""

    def stream(self, start: StreamStart) -> StreamSpan:
        """A span for a request for a stream; its parent is in the request's headers."""

    def call(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[CallSpan]:
        """A span for a call to Hatchet, which ends with the context; an exception is noted by its type."""
