"""RecordedRun: a recorded run that is played again now: published on the bus, and answered by time.

It publishes what the engine sent. How a subscription receives it (looked up late, held for 5 s, hung up)
depends on the embedded engine's own quirks, as for any run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from proxy.simulator.messages import Message
from proxy.simulator.random_source import RandomSource
from proxy.simulator.recordings.parser import UUID, Recording, stamp, text_of, wall
from proxy.simulator.statuses import QUEUED, STATUS
from proxy.simulator.stubs import workflows_pb2
from proxy.simulator.world import World

Publish = Callable[[Message, Mapping[str, Any]], None]  # a message, and its run's metadata


class RecordedRun:
    """One replay of a recording, `speed` times as fast; its ids are the recorded ones, or new."""

    def __init__(  # noqa: PLR0917 - what a run needs of its engine
        self,
        world: World,
        tenant_id: str,
        publish: Publish,
        name: str,
        recording: Recording,
        speed: float,
    ) -> None:
        self.tenant_id, self.name, self.id = tenant_id, name, recording.run_id
        self._publish = publish
        self.metadata: dict[str, Any] = dict(recording.metadata)
        self.created_at = world.scheduler.wall()
        self._world, self._recording, self._speed = world, recording, speed
        self._begun = world.scheduler.now()
        self._shift = self.created_at - (recording.triggered_at or self.created_at)
        self._ids: dict[str, str] = {}
        if world.quirks.traceparent:
            self.metadata.setdefault("traceparent", f"00-{world.random.hex(32)}-{world.random.hex(16)}-01")

    def renamed(self, random: RandomSource, metadata: Mapping[str, Any]) -> RecordedRun:
        """Give it new ids, and the metadata of its trigger."""
        known = {
            self._recording.run_id,
            *(message.step_run_id or "" for _, message in self._recording.published),
        }
        known |= {step["external_id"] for _, core in self._recording.states for step in _steps(core).values()}
        self._ids = {old: random.uuid() for old in sorted(known) if UUID.fullmatch(old)}
        self.id = self._ids[self._recording.run_id]
        self.metadata |= metadata
        return self

    def begin(self) -> RecordedRun:
        """Schedule everything that will be published."""
        for seconds, message in self._recording.published:
            at = None if message.at is None else message.at + self._shift
            mine = replace(
                message,
                run_id=self._id(message.run_id),
                step_run_id=None if message.step_run_id is None else self._id(message.step_run_id),
                at=at,
                _shared=None,
            )
            self._world.scheduler.after(seconds / self._speed, self._publish, mine, self.metadata)
        return self

    def _id(self, old: str) -> str:
        return self._ids.get(old, old)

    @property
    def elapsed(self) -> float:
        """Seconds since the trigger, in the recording's time."""
        return (self._world.scheduler.now() - self._begun) * self._speed

    # -- what is answered ------------------------------------------------------------------------

    def is_visible(self, now: float) -> bool:
        """Whether the read side had the run at this moment."""
        past = self._past()
        return past is not None and "run" in past

    @property
    def history_status(self) -> str:
        """The read side's status of the run."""
        past = self._past()
        return str(past["run"]["status"]) if past is not None and "run" in past else QUEUED

    @property
    def done(self) -> bool:
        return bool(_latest(self._recording.states, self.elapsed).get("done"))

    def details(self) -> workflows_pb2.GetRunDetailsResponse:
        """GetRunDetails as it was answered at this moment of the recording."""
        core = _latest(self._recording.states, self.elapsed) or self._recording.states[0][1]
        answer = workflows_pb2.GetRunDetailsResponse(
            input=b"{}",
            status=core.get("status", "QUEUED"),
            done=bool(core.get("done")),
            additional_metadata=_json(self.metadata),
        )
        for name, step in _steps(core).items():
            detail = answer.task_runs[name]
            detail.external_id, detail.readable_id = self._id(step["external_id"]), name
            detail.status = STATUS[step["status"]]
            if "output" in step:
                detail.output = text_of(step["output"]).encode()
            if "error" in step:
                detail.error = text_of(step["error"])
        return answer

    def answer(self) -> dict[str, Any] | None:
        """The history as it was answered; None where it did not know the run."""
        past = self._past()
        if past is None or "run" not in past:
            return None
        now = stamp(self.created_at)
        tasks = [self._task(task) for task in past.get("tasks", ())]
        run = {**past["run"], "output": _value(past["run"].get("output"))}
        run |= {"errorMessage": text_of(run.get("errorMessage", "")), "additionalMetadata": self.metadata}
        run |= {
            "metadata": {"id": self.id, "createdAt": now, "updatedAt": now},
            "createdAt": now,
            "input": {},
        }
        run |= {"displayName": self.name, "tenantId": self.tenant_id}
        names = {self._id(step["external_id"]): name for name, step in self._all_steps().items()}
        shape = [
            {"taskExternalId": task["taskExternalId"], "taskName": names.get(task["taskExternalId"], "")}
            for task in tasks
        ]
        events = [self._event(event) for event in past.get("taskEvents", ())]
        config = {"Name": self.name, "Tasks": [], "description": ""}
        return {"run": run, "shape": shape, "tasks": tasks, "taskEvents": events, "workflowConfig": config}

    def _task(self, task: Mapping[str, Any]) -> dict[str, Any]:
        mine = self._id(task["taskExternalId"])
        now = stamp(self.created_at)
        return {
            **task,
            "taskExternalId": mine,
            "output": _value(task.get("output")),
            "errorMessage": text_of(task.get("errorMessage", "")),
            "metadata": {"id": mine, "createdAt": now, "updatedAt": now},
            "taskInsertedAt": now,
        }

    def _event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        from_text = {key: text_of(event[key]) for key in ("errorMessage", "output") if key in event}
        return {**event, **from_text, "taskId": self._id(event["taskId"]), "timestamp": self._shifted(event)}

    def _shifted(self, event: Mapping[str, Any]) -> str:
        return stamp(wall(event["timestamp"]) + self._shift)

    def _all_steps(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _, core in self._recording.states:
            found |= _steps(core)
        return found

    def _past(self) -> dict[str, Any] | None:
        return _latest(self._recording.histories, self.elapsed) or None


def _latest(answers: list[tuple[float, dict[str, Any]]], elapsed: float) -> dict[str, Any]:
    before = [answer for seconds, answer in answers if seconds <= elapsed]
    return before[-1] if before else {}


def _steps(core: Mapping[str, Any]) -> dict[str, Any]:
    return dict(core.get("task_runs") or {})


def _value(recorded: Any) -> Any:
    if isinstance(recorded, dict) and ("long_text" in recorded or "redacted" in recorded):
        return {"filling": text_of(recorded)}
    return recorded if recorded is not None else {}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
