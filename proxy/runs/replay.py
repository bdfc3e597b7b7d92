"""Replays a recorded run: gives the lines of a recording to the reconciler, at the recorded times.

The format is that of ``tests/recordings/README.md``. Every subscription of the recording takes part; a read
of a state is answered with the state that was recorded at that time. The time is the recording's, so nothing
waits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from proxy.core.events import Item
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
from proxy.runs.reconcile.reconciler import Plan, Reconciler
from proxy.runs.reconcile.subscription_state import Selection, SubscriptionState

SETTLING: Final = 60.0
"""Seconds of the recording's time after its last line: longer than anything that the reconciler waits for."""

MOST_TICKS: Final = 100_000  # a run that always has something due must not hang a command


class NotARecording(ValueError):
    """The lines are no recording; the message names the line."""


POLLED: Final = 0.1
"""Seconds between the recorder's reads of the states: a state may be true from so much earlier on."""


@dataclass
class _Replay:
    """The reconciler, what was recorded of the states, and the items so far."""

    reconciler: Reconciler
    subscriptions: dict[str, SubscriptionState] = field(default_factory=dict)
    cores: list[tuple[float, CoreState]] = field(default_factory=list)
    pasts: list[tuple[float, PastState | None]] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    ticks: int = 0

    def until(self, now: float) -> None:
        """Do everything that is due up to `now`."""
        while self.ticks < MOST_TICKS:
            plan = self.reconciler.plan
            times = [at for at in (plan.due, plan.read_core_at, plan.read_history_at) if at is not None]
            if not times or min(times) > now:
                return
            self.ticks += 1
            self._due(plan, max(min(times), 0.0))
            self.items += self.reconciler.take()

    def _due(self, plan: Plan, at: float) -> None:
        reconciler = self.reconciler
        if plan.due is not None and plan.due <= at:
            reconciler.tick(at)
        if plan.read_core_at is not None and plan.read_core_at <= at:
            reconciler.core_poll.begin(at)
            core = _latest(self.cores, at)
            if core is None:
                reconciler.core_poll.again(at)
            else:
                reconciler.core(core, at)
        if plan.read_history_at is not None and plan.read_history_at <= at:
            reconciler.history_poll.begin(at)
            reconciler.history(_latest(self.pasts, at), at)

    def receive(self, line: dict[str, Any], run_id: str, now: float) -> None:
        """Take in one line of a subscription."""
        name = line["subscription"]
        if self.reconciler.over:
            return
        if "event" in line:
            event = _live(line["event"])
            if event.run_id == run_id and name in self.subscriptions:
                self.reconciler.received(self.subscriptions[name], event, now)
        elif "ended" in line:
            if name in self.subscriptions:
                self.reconciler.closed(self.subscriptions.pop(name), now)
        else:
            by_metadata = "by_metadata" in name or "by_traceparent" in name
            selection = Selection.BY_METADATA if by_metadata else Selection.BY_RUN_ID
            self.subscriptions[name] = self.reconciler.opened(now, selection)
        self.items += self.reconciler.take()


def items_of_recording(texts: Iterable[str]) -> list[Item]:
    """Every item of the recorded run, in order. Raises NotARecording."""
    lines = list(_lines(texts))
    run_id = next((line["workflow_run_id"] for line in lines if line["source"] == "trigger"), None)
    if not isinstance(run_id, str):
        raise NotARecording("no line has the source `trigger`, which names the run")
    has_history = any(line["source"].startswith("REST") for line in lines)
    replay = _Replay(Reconciler(run_id, has_history=has_history))
    replay.reconciler.core_poll.want(0.0)
    for read in (
        _take_state,
        _take_event,
    ):  # the states first: each read is answered from all that was recorded
        for number, line in enumerate(lines, 1):
            try:
                read(replay, line, run_id, max(float(line["t"]), 0.0))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise NotARecording(
                    f"line {number} lacks a field that its source needs, or the field has another type"
                ) from None
    replay.until(max((float(line["t"]) for line in lines), default=0.0) + SETTLING)
    return replay.items


_State = TypeVar("_State")


def _latest(states: list[tuple[float, _State]], at: float) -> _State | None:
    """The last state that was true at `at`."""
    return next((state for since, state in reversed(states) if since <= at + POLLED), None)


def _lines(texts: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            raise NotARecording(f"line {number} is not JSON") from None
        if not isinstance(line, dict) or not isinstance(line.get("source"), str):
            raise NotARecording(f"line {number} has no source")
        yield line


def _take_state(replay: _Replay, line: dict[str, Any], run_id: str, now: float) -> None:
    """Take in a line with a state."""
    source = line["source"]
    if source == "GetRunDetails" and "task_runs" in line["answer"]:
        replay.cores.append((now, _core(run_id, line["answer"])))
    elif source == "REST workflow-runs":
        replay.pasts.append((now, _past(run_id, line["answer"])))


def _take_event(replay: _Replay, line: dict[str, Any], run_id: str, now: float) -> None:
    """Take in a line about a subscription."""
    replay.until(now)
    if line["source"] == "live":
        replay.receive(line, run_id, now)


def _text(value: Any) -> str:
    """A text as it came; for a long one that the recorder shortened, what the recorder wrote."""
    return value if isinstance(value, str) else json.dumps(value)


def _live(event: dict[str, Any]) -> LiveEvent:
    kind = event["event_type"].removeprefix("RESOURCE_EVENT_TYPE_")
    return LiveEvent(
        run_id=event["workflow_run_id"],
        kind=Kind[kind] if kind in Kind.__members__ else Kind.OTHER,
        step_run_id=event["resource_id"] if event["resource_type"].endswith("STEP_RUN") else None,
        payload=_text(event.get("event_payload", "")),
        at=instant(event.get("event_timestamp")),
        retry_count=event.get("retry_count"),
        index=event.get("event_index"),
        hangup=bool(event.get("hangup")),
    )


def _core(run_id: str, answer: dict[str, Any]) -> CoreState:
    steps = tuple(
        CoreStep(
            name=name,
            step_run_id=run["external_id"],
            status=Status(run["status"]),
            output=_text(run["output"]) if run.get("output") else None,
            error=_text(run["error"]) if run.get("error") else None,
        )
        for name, run in answer["task_runs"].items()
    )
    metadata = answer.get("additional_metadata") or {}
    return CoreState(run_id, Status(answer["status"]), bool(answer["done"]), steps, metadata)


def _past(run_id: str, answer: dict[str, Any]) -> PastState | None:
    if answer["http"] != 200:
        return None
    steps = tuple(_past_step(task, answer.get("taskEvents") or ()) for task in answer["tasks"])
    return PastState(run_id, Status(answer["run"]["status"]), steps)


def _past_step(task: dict[str, Any], events: Iterable[dict[str, Any]]) -> PastStep:
    step_id = task["taskExternalId"]
    own = [
        PastTaskEvent(
            event["eventType"], instant(event["timestamp"]), event["retryCount"], event.get("errorMessage")
        )
        for event in events
        if event["taskId"] == step_id
    ]
    own.sort(key=lambda event: event.at or 0)
    return PastStep(
        name=task["actionId"].rpartition(":")[2],
        step_run_id=step_id,
        status=Status(task["status"]),
        retry_count=task["retryCount"],
        retries=None,
        output=task.get("output"),
        error=task.get("errorMessage") or None,
        created_at=own[0].at if own else None,  # recordings keep the events' times alone
        events=tuple(own),
    )
