"""A script played on manual time: the model without sockets, subscribed to as the recordings were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.hatchet.protobuf import workflows_pb2
from proxy.simulator.api.rest_views import run_answer
from proxy.simulator.api.run_details import run_details
from proxy.simulator.api.subscriptions import MetadataSubscription, RunSubscription
from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.scheduler import ManualScheduler
from proxy.simulator.script.loader import load_script
from proxy.simulator.script.model import Script
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core
from proxy.simulator.stubs import dispatcher_pb2
from proxy.simulator.world import World

TESTS = Path(__file__).parent.parent
RECORDED = load_script(TESTS / "support" / "recorded.yaml")
BEFORE = 0.4  # the recordings' metadata subscription was there so long before the trigger


@dataclass
class Received:
    """A subscription's listener that keeps everything."""

    scheduler: ManualScheduler
    events: list[tuple[float, dispatcher_pb2.WorkflowEvent]] = field(default_factory=list)
    ended: tuple[float, str, str] | None = None

    def send(self, wire: bytes) -> None:
        self.events.append((self.scheduler.now(), dispatcher_pb2.WorkflowEvent.FromString(wire)))

    def end(self, status: str, details: str = "") -> None:
        assert self.ended is None
        self.ended = (self.scheduler.now(), status, details)


class SimulatedRun:
    """One run of a workflow; time 0 is the trigger."""

    def __init__(
        self, workflow: str, seed: int, *, script: Script = RECORDED, quirks: Mapping[str, bool] | None = None
    ) -> None:
        self.scheduler = ManualScheduler()
        self.core = Core(
            script, World(self.scheduler, RandomSource(seed), Quirks().switched(**(quirks or {})))
        )
        self.tenant = self.core.tenants[0]
        self.received: dict[str, Received] = {}
        self.by_pair("by_metadata_before_trigger")
        self.scheduler.advance(BEFORE)
        self.begun = self.scheduler.now()
        run = self.core.trigger(self.tenant, workflow, {}, {"stream_key": "k", "user_id": "u1"})
        assert isinstance(run, Run), "the script has no recordings"
        self.run = run

    def by_pair(self, name: str) -> None:
        """Subscribe by the run's metadata."""
        self.received[name] = Received(self.scheduler)
        MetadataSubscription(self.core, self.tenant, "stream_key", "k", self.received[name])

    def by_run(self, name: str) -> None:
        """Subscribe by the run's id."""
        self.received[name] = Received(self.scheduler)
        RunSubscription(self.core, self.tenant, self.run.id, self.received[name])

    def at(self, seconds: float) -> None:
        """Let time pass until so long after the trigger."""
        self.scheduler.advance(self.begun + seconds - self.scheduler.now())

    def later(self, seconds: float, name: str) -> None:
        """Subscribe by run id so long after the trigger."""
        self.scheduler.after(seconds, self.by_run, name)

    def core_state(self) -> workflows_pb2.GetRunDetailsResponse:
        return run_details(self.run, self.core.quirks)

    def past(self) -> dict[str, Any]:
        return run_answer(self.run, self.scheduler.now())

    def names(self) -> dict[str, str]:
        """Resource ids, by what they are."""
        names = {step.id: name for name, step in self.run.steps.items()}
        return names if self.run.workflow.is_task else {**names, self.run.id: "(run)"}


def summary(event: dispatcher_pb2.WorkflowEvent, names: dict[str, str]) -> tuple[Any, ...]:
    """What an event says, without ids and times."""
    kind = dispatcher_pb2.ResourceEventType.Name(event.event_type).removeprefix("RESOURCE_EVENT_TYPE_")
    whole = event.resource_type == dispatcher_pb2.RESOURCE_TYPE_WORKFLOW_RUN
    return (
        "(run)" if whole else names.get(event.resource_id, "(other)"),
        kind,
        event.event_payload.partition("\n")[0][:40],
        event.retry_count if event.HasField("retry_count") else None,
        event.event_index if event.HasField("event_index") else None,
        event.hangup,
    )
