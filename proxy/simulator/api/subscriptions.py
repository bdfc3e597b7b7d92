"""The two kinds of subscription to workflow events: by run id, and by a metadata pair.

Synchronous: a subscription sends bytes to a `Listener` and ends it once, with a status. A client may close
its subscription at any time. (internal/services/dispatcher/server.go, the functions
subscribeToWorkflowEventsByWorkflowRunIdV1 and subscribeToWorkflowEventsByAdditionalMetaV1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from proxy.simulator import messages
from proxy.simulator.api.reorder_buffer import ReorderBuffer
from proxy.simulator.messages import Message
from proxy.simulator.recordings.replayer import RecordedRun
from proxy.simulator.scheduler import Cancellable
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core
from proxy.simulator.state.tenant import Tenant
from proxy.simulator.statuses import CANCELLED, FAILED, OVER
from proxy.simulator.world import World

LOOKUP_EVERY: Final = 1.0  # seconds between two lookups of a run that the history does not know
LOOKUPS: Final = 10
DISORDER: Final = 0.002  # 23 of 10,000 chunks came out of order on a real engine
DISORDER_DELAY: Final = 0.015
INVALID: Final = "grpc: error while marshaling: string field contains invalid UTF-8"

OK, NOT_FOUND, INTERNAL = "OK", "NOT_FOUND", "INTERNAL"


class Listener(Protocol):
    """The client's side of a subscription."""

    def send(self, wire: bytes) -> None:
        """The bytes of one WorkflowEvent."""

    def end(self, status: str, details: str = "") -> None:
        """The end: the name of a gRPC status, and its details."""


class Outlet:
    """The way from a subscription to its listener; it is closed once.

    `on_close` is called when it closes, whichever side closes it.
    """

    def __init__(self, world: World, listener: Listener, on_close: Callable[[], None]) -> None:
        self._world, self._listener, self._on_close = world, listener, on_close
        self.open = True

    def send(self, message: Message, *, hangup: bool) -> None:
        """Send a message; one that cannot be encoded ends the subscription, and so does a hangup."""
        wire = message.wire(self._world.scheduler.wall(), hangup)
        if wire is not None:
            self._listener.send(wire)
        elif self._world.quirks.bad_chunk_ends_all:
            self.end(INTERNAL, INVALID)
        if hangup:
            self.end(OK)

    def end(self, status: str = OK, details: str = "") -> None:
        """End the subscription with a status."""
        if self.open:
            self.close()
            self._listener.end(status, details)

    def close(self) -> None:
        """Send nothing any more, and no status: the client has gone."""
        self.open = False
        self._on_close()


class RunSubscription:
    """A subscription by run id: looks the run up first, orders chunks, hangs up at each end of the run."""

    def __init__(self, core: Core, tenant: Tenant, run_id: str, listener: Listener) -> None:
        self._core, self._tenant, self._run_id = core, tenant, run_id
        self._outlet = Outlet(core.world, listener, self._on_close)
        self._lookups = 0
        self._timer: Cancellable | None = None
        self._buffer = ReorderBuffer(core.scheduler, self._pass_on)
        if core.quirks.newer_engine:
            tenant.bus.subscribe_to_run(run_id, self)
        self._look_up()

    def end(self) -> None:
        """End with OK and without hangup, as an engine that shuts down."""
        self._outlet.end()

    def close(self) -> None:
        """The client has gone."""
        self._outlet.close()

    def _on_close(self) -> None:
        self._buffer.close()
        self._tenant.bus.unsubscribe_from_run(self._run_id, self)
        if self._timer is not None:
            self._timer.cancel()

    def _look_up(self) -> None:
        run = self._run_in_history()
        if run is None:
            self._look_up_later()
        elif run.history_status in OVER:
            self._end_finished(run)
        elif not self._core.quirks.newer_engine:
            self._tenant.bus.subscribe_to_run(self._run_id, self)

    def _run_in_history(self) -> Run | RecordedRun | None:
        run = self._tenant.runs.get(self._run_id) or self._tenant.recorded.get(self._run_id)
        waits = self._core.quirks.early_subscription_waits
        return None if run is None or (waits and not run.is_visible(self._core.scheduler.now())) else run

    def _look_up_later(self) -> None:
        self._lookups += 1
        if self._lookups >= LOOKUPS:
            self._outlet.end(NOT_FOUND, f"workflow run {self._run_id} not found")
        else:
            self._timer = self._core.scheduler.after(LOOKUP_EVERY, self._look_up)

    def _end_finished(self, run: Run | RecordedRun) -> None:
        if self._core.quirks.newer_engine:
            ends = {FAILED: messages.FAILED, CANCELLED: messages.CANCELLED}
            self._outlet.send(Message(run.id, ends.get(run.history_status, messages.COMPLETED)), hangup=True)
        self._outlet.end(OK)

    def receive(self, messages: Sequence[Message]) -> None:
        """The messages of one flush."""
        for message in messages:
            if self._core.quirks.five_second_hold:
                self._buffer.add(message)
            else:
                self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        if self._outlet.open:
            self._outlet.send(message, hangup=message.is_run_end)


class MetadataSubscription:
    """A subscription by a metadata pair: every run that carries it, until no run that was seen is active.

    COMPLETED of a run makes it inactive. Every other message of it makes it active, also its FAILED and
    CANCELLED: after those the subscription stays open.
    """

    def __init__(self, core: Core, tenant: Tenant, key: str, value: str, listener: Listener) -> None:
        self._core, self._tenant, self._pair = core, tenant, (key, value)
        self._outlet = Outlet(core.world, listener, self._on_close)
        self._active: set[str] = set()
        tenant.bus.subscribe_to_pair(key, value, self)

    def end(self) -> None:
        """End with OK and without hangup, as an engine that shuts down."""
        self._outlet.end()

    def close(self) -> None:
        """The client has gone."""
        self._outlet.close()

    def _on_close(self) -> None:
        self._tenant.bus.unsubscribe_from_pair(*self._pair, self)

    def receive(self, messages: Sequence[Message]) -> None:
        """The messages of one flush: sorted by index, whatever run and step they belong to."""
        quirks = self._core.quirks
        if quirks.sorted_flush:
            messages = sorted(messages, key=lambda one: one.index or 0)
        for message in messages:
            if message.is_chunk and quirks.metadata_disorder and self._core.random.chance(DISORDER):
                self._core.scheduler.after(DISORDER_DELAY, self._pass_on, message)
            else:
                self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        if not self._outlet.open:
            return
        if message.step_run_id is None and message.kind == messages.COMPLETED:
            self._active.discard(message.run_id)
        else:
            self._active.add(message.run_id)
        self._outlet.send(message, hangup=not self._active and self._core.quirks.metadata_hangup)


Subscription = RunSubscription | MetadataSubscription
