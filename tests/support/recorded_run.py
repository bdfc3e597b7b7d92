"""Recordings of a real engine as the reconciler sees them: events by subscription, and states by time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.core.instant import instant
from proxy.core.observations import (
    CoreState,
    CoreStep,
    Kind,
    LiveEvent,
    PastState,
    PastStep,
    PastTaskEvent,
    Status,
)

RECORDINGS = Path(__file__).parent.parent / "recordings"


@dataclass
class Recording:
    """One file of the real engine: what it sent on each subscription, and its states as they changed."""

    run_id: str
    sent: list[tuple[float, str, str, LiveEvent | None]] = field(default_factory=list)
    cores: list[tuple[float, CoreState]] = field(default_factory=list)
    pasts: list[tuple[float, PastState | None]] = field(default_factory=list)
    acts: list[tuple[float, str]] = field(default_factory=list)

    def core_at(self, t: float) -> CoreState | None:
        return next((state for at, state in reversed(self.cores) if at <= t), None)

    def past_at(self, t: float) -> PastState | None:
        return next((state for at, state in reversed(self.pasts) if at <= t), None)


def load(path: Path) -> Recording:
    """Read a recording."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    run_id = next(line["workflow_run_id"] for line in lines if line["source"] == "trigger")
    recording = Recording(run_id)
    for line in lines:
        t, source = line["t"], line["source"]
        if source == "live":
            what = "event" if "event" in line else "ended" if "ended" in line else "opened"
            event = _live(line["event"]) if what == "event" else None
            if event is None or event.run_id == run_id:
                recording.sent.append((t, line["subscription"], what, event))
        elif source == "GetRunDetails" and "task_runs" in line["answer"]:
            recording.cores.append((t, _core(run_id, line["answer"])))
        elif source == "REST workflow-runs":
            recording.pasts.append((t, _past(run_id, line["answer"])))
        elif source == "act":
            recording.acts.append((t, line["did"]))
    return recording


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _live(event: dict[str, Any]) -> LiveEvent:
    return LiveEvent(
        run_id=event["workflow_run_id"],
        kind=Kind[event["event_type"].removeprefix("RESOURCE_EVENT_TYPE_")],
        step_run_id=event["resource_id"] if event["resource_type"].endswith("STEP_RUN") else None,
        payload=_text(event["event_payload"]),
        at=instant(event["event_timestamp"]),
        retry_count=event.get("retry_count"),
        index=event.get("event_index"),
        hangup=event["hangup"],
    )


def _core(run_id: str, answer: dict[str, Any]) -> CoreState:
    steps = [
        CoreStep(
            name=name,
            step_run_id=run["external_id"],
            status=Status(run["status"]),
            output=_text(run["output"]) if run.get("output") else None,
            error=run.get("error"),
        )
        for name, run in answer["task_runs"].items()
    ]
    return CoreState(
        run_id, Status(answer["status"]), answer["done"], tuple(steps), answer["additional_metadata"]
    )


def _past(run_id: str, answer: dict[str, Any]) -> PastState | None:
    if answer["http"] != 200:
        return None
    steps = []
    for task in answer["tasks"]:
        step_id = task["taskExternalId"]
        events = [
            PastTaskEvent(
                e["eventType"], instant(e["timestamp"]), e["retryCount"], e.get("errorMessage") or None
            )
            for e in answer["taskEvents"]
            if e["taskId"] == step_id
        ]
        steps.append(
            PastStep(
                name=task["actionId"].rpartition(":")[2],
                step_run_id=step_id,
                status=Status(task["status"]),
                retry_count=task["retryCount"],
                retries=None,
                output=task["output"],
                error=task["errorMessage"] or None,
                events=tuple(sorted(events, key=lambda e: e.at or 0)),
            )
        )
    return PastState(run_id, Status(answer["run"]["status"]), tuple(steps))
