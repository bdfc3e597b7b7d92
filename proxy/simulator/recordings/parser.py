"""Recording: a file of what a real engine sent and answered about one run, parsed to be played again.

The lines of all subscriptions are merged: each event once, at the time at which it was first received. The
answers of the core and of the history are kept by time. A payload that the recording only describes is
replaced by filling of the same length. (The format: tests/recordings/README.md)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.simulator import messages
from proxy.simulator.messages import Message
from proxy.simulator.stubs import dispatcher_pb2

SAME_RUN_EVENT = 0.15  # seconds within which two subscriptions receive the same event about the run
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
STEP_RUN = "RESOURCE_TYPE_STEP_RUN"


class NotARecording(ValueError):
    """A file that is not a recording; the text says where and why."""


@dataclass(slots=True)
class Recording:
    """What was published and answered, each with its seconds since the trigger."""

    run_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    published: list[tuple[float, Message]] = field(default_factory=list)
    states: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    histories: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    triggered_at: float | None = None  # the wall clock at the trigger, derived from timestamps


def load_recording(path: Path) -> Recording:
    """The recording at `path`. Raises NotARecording, OSError."""
    return parse_recording(path.name, path.read_text(encoding="utf-8").splitlines())


def parse_recording(name: str, lines: Iterable[str]) -> Recording:
    """A recording's lines. Raises NotARecording."""
    builder = _Builder()
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                builder.add(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotARecording(
                f"{name}:{number}: not a line of a recording ({type(error).__name__})"
            ) from None
    if not builder.recording.run_id:
        raise NotARecording(f"{name}: no line has the source `trigger`, which names the run")
    builder.recording.published.sort(key=lambda one: one[0])
    return builder.recording


class _Builder:
    """Builds a recording from its lines, which must come in the order of time."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._seen: set[tuple[Any, ...]] = set()
        self._run_events: list[tuple[float, int]] = []
        self._latest: tuple[str, int] | None = None  # the step and index of the latest chunk
        self._broken: list[float] = []

    def add(self, line: Mapping[str, Any]) -> None:
        seconds = float(line["t"])
        match line["source"]:
            case "trigger":
                self.recording.run_id = str(line["workflow_run_id"])
            case "live" if "event" in line:
                self._event(seconds, line["event"])
            case "live" if line.get("ended") == "INTERNAL":
                self._bad_chunk(seconds)
            case "GetRunDetails":
                self.recording.states.append((seconds, line["answer"]))
                self.recording.metadata |= line["answer"].get("additional_metadata") or {}
            case "REST workflow-runs":
                self.recording.histories.append((seconds, line["answer"]))

    def _event(self, seconds: float, event: Mapping[str, Any]) -> None:
        kind: messages.Kind = dispatcher_pb2.ResourceEventType.Value(event["event_type"])  # type: ignore[assignment]
        step = event["resource_id"] if event["resource_type"] == STEP_RUN else None
        retry, index = event.get("retry_count"), event.get("event_index")
        if step is None and any(k == kind and abs(t - seconds) < SAME_RUN_EVENT for t, k in self._run_events):
            return
        key = (step, kind, event["event_timestamp"] if kind == messages.STREAM else retry)
        if step is not None and key in self._seen:
            return
        self._seen.add(key)
        at = wall(event["event_timestamp"])
        if step is None:
            self._run_events.append((seconds, kind))
        if kind in (messages.STREAM, messages.STARTED):
            self._begun(at, seconds)
        if kind == messages.STREAM and step is not None:
            self._latest = (step, index or 0)
        published_at = at if kind in (messages.STREAM, messages.STARTED) else None
        payload = text_of(event["event_payload"]).encode()
        run_id = event["workflow_run_id"]
        self.recording.published.append(
            (seconds, Message(run_id, kind, step, payload, published_at, retry, index))
        )

    def _begun(self, at: float, seconds: float) -> None:
        begun = self.recording.triggered_at
        self.recording.triggered_at = at - seconds if begun is None else min(begun, at - seconds)

    def _bad_chunk(self, seconds: float) -> None:
        if any(abs(one - seconds) < SAME_RUN_EVENT for one in self._broken):
            return
        self._broken.append(seconds)
        step, index = self._latest or (self.recording.run_id, -1)
        bad = Message(self.recording.run_id, messages.STREAM, step, b"\xff", None, None, index + 1)
        self.recording.published.append((seconds, bad))


def text_of(value: Any) -> str:
    """A text as recorded, or filling of its length where it is only described."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return json.dumps(value)
    length = int(value.get("long_text", value.get("redacted", 0)))
    head = str(value.get("head", ""))
    if head.startswith(("{", "[")) or value.get("json"):
        frame = len('{"filling":""}')
        return '{"filling":"' + "." * max(length - frame, 0) + '"}'
    return head[:length].ljust(length, ".")


def stamp(at: float) -> str:
    """A time as the engine writes it."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "")
    return text.rstrip("0").rstrip(".") + "Z"


def wall(stamp: str) -> float:
    """RFC 3339 with nanoseconds."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + (
        float(f"0.{fraction}") if fraction else 0.0
    )
