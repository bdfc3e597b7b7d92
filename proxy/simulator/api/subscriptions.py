"""RunFeed and PairFeed: the two kinds of subscription, each with its own lies.

Synchronous: a feed gives bytes to a `Listener` and ends it once, with a status. Who listens may leave at any
time. (internal/services/dispatcher/server.go, subscribeToWorkflowEventsByWorkflowRunIdV1 and
…ByAdditionalMetaV1)
"""

from __future__ import annotations

from typing import Protocol

from proxy.simulator import messages
from proxy.simulator.api.reorder_buffer import ReorderBuffer
from proxy.simulator.messages import Message
from proxy.simulator.recordings.replayer import RecordedRun
from proxy.simulator.scheduler import Cancellable
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core
from proxy.simulator.state.tenant import Tenant
from proxy.simulator.statuses import CANCELLED, FAILED, OVER

LOOK_AGAIN = 1.0
LOOKS = 10
DISORDER = 0.002
DISORDER_LATE = 0.015
INVALID = "grpc: error while marshaling: string field contains invalid UTF-8"

OK, NOT_FOUND, INTERNAL = "OK", "NOT_FOUND", "INTERNAL"


class Listener(Protocol):
    """Who is on the other side of a subscription."""

    def give(self, wire: bytes) -> None:
        """The bytes of one WorkflowEvent."""

    def end(self, status: str, details: str = "") -> None:
        """No more; a gRPC status' name and details."""


class _Feed:
    """What both kinds share: they end once, and then hear nothing."""

    def __init__(self, core: Core, tenant: Tenant, listener: Listener) -> None:
        self._core, self._tenant, self._listener = core, tenant, listener
        self.open = True

    def end(self, status: str = OK, details: str = "") -> None:
        """End the subscription."""
        if self.open:
            self.open = False
            self.leave()
            self._listener.end(status, details)

    def leave(self) -> None:
        """Hear nothing any more, and say nothing."""
        raise NotImplementedError

    def _send(self, message: Message, hangup: bool) -> None:
        wire = message.wire(self._core.agenda.wall(), hangup)
        if wire is not None:
            self._listener.give(wire)
        elif self._core.quirks.bad_chunk_ends_all:
            self.end(INTERNAL, INVALID)
        if hangup:
            self.end(OK)


class RunFeed(_Feed):
    """A subscription by run id: looks the run up first, orders the chunks, hangs up at each "end"."""

    def __init__(self, core: Core, tenant: Tenant, run_id: str, listener: Listener) -> None:
        super().__init__(core, tenant, listener)
        self._run_id = run_id
        self._looks = 0
        self._timer: Cancellable | None = None
        self._buffer = ReorderBuffer(core.agenda, self._pass_on)
        if core.quirks.newer_engine:
            tenant.bus.join_run(run_id, self)
        self._look_up()

    def leave(self) -> None:
        self.open = False
        self._buffer.close()
        self._tenant.bus.leave_run(self._run_id, self)
        if self._timer is not None:
            self._timer.cancel()

    def _look_up(self) -> None:
        run = self._seen_run()
        if run is None:
            self._not_there_yet()
        elif run.past_status in OVER:
            self._over(run)
        elif not self._core.quirks.newer_engine:
            self._tenant.bus.join_run(self._run_id, self)

    def _seen_run(self) -> Run | RecordedRun | None:
        run = self._tenant.runs.get(self._run_id) or self._tenant.recorded.get(self._run_id)
        waits = self._core.quirks.early_subscription_waits
        return None if run is None or (waits and not run.known(self._core.agenda.now())) else run

    def _not_there_yet(self) -> None:
        self._looks += 1
        if self._looks >= LOOKS:
            self.end(NOT_FOUND, f"workflow run {self._run_id} not found")
        else:
            self._timer = self._core.agenda.after(LOOK_AGAIN, self._look_up)

    def _over(self, run: Run | RecordedRun) -> None:
        if self._core.quirks.newer_engine:
            kind = {FAILED: messages.FAILED, CANCELLED: messages.CANCELLED}.get(
                run.past_status, messages.COMPLETED
            )
            self._send(Message(run.id, kind), hangup=True)
        self.end(OK)

    def hear(self, message: Message) -> None:
        if self._core.quirks.five_second_hold:
            self._buffer.add(message)
        else:
            self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        if self.open:
            self._send(message, hangup=message.is_run_end)


class PairFeed(_Feed):
    """A subscription by a metadata pair: every run that carries it, unordered, until none seen is active."""

    def __init__(self, core: Core, tenant: Tenant, key: str, value: str, listener: Listener) -> None:
        super().__init__(core, tenant, listener)
        self._pair = (key, value)
        self._active: set[str] = set()
        tenant.bus.join_pair(key, value, self)

    def leave(self) -> None:
        self.open = False
        self._tenant.bus.leave_pair(*self._pair, self)

    def hear(self, message: Message) -> None:
        quirks = self._core.quirks
        if message.is_chunk and quirks.metadata_disorder and self._core.dice.chance(DISORDER):
            self._core.agenda.after(DISORDER_LATE, self._take, message)
        else:
            self._take(message)

    def _take(self, message: Message) -> None:
        if not self.open:
            return
        if message.step_run_id is None and message.kind == messages.COMPLETED:
            self._active.discard(message.run_id)
        else:
            self._active.add(message.run_id)
        self._send(message, hangup=not self._active and self._core.quirks.metadata_hangup)
