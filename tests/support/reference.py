"""The reference client: a run's picture from a stream's frames, and whether it equals the truth.

The twin of ``clients/js/stream-proxy.js`` (``test_clients.py`` plays the same frames through both), for tests
that know what really happened: `judge` says what is wrong with a picture that announced gaps do not excuse.

It does no IO: frames go in (``tests/support/eventsource.py`` reads them), a picture comes out. `wrong` lists
what a stream must never send. To find doubled chunks, chunks out of order and losses without a gap, it needs
rules that forward attempt, index and recovered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.eventsource import Frame

CONTROL_FRAMES: Final = frozenset(
    {"stream.gap", "stream.reset", "stream.end", "stream.wait", "stream.expired", "stream.drain"}
)
ENDS: Final = {
    "step_completed": "completed",
    "step_skipped": "skipped",
    "step_failed": "failed",
    "step_cancelled": "cancelled",
}
RESTARTS: Final = frozenset(
    {"unknown_cursor", "backlog", "slow_client"}
)  # after these, events may come again


def read_frame(name: str, data: Any) -> dict[str, Any] | None:
    """What a frame of a team's rules says, in the picture's words (as ``readFrame`` in JavaScript)."""
    if not isinstance(data, dict):
        return None
    kind = data.get("type", "step_stream" if "text" in data else None)
    if not isinstance(kind, str):
        return None
    return {**data, "type": kind, "payload": data["text"] if "text" in data else data.get("payload")}


@dataclass(slots=True)
class StepPicture:
    """One step of the run, by the frames so far."""

    name: str
    doubted: bool = False  # a gap was announced since the last chunk
    status: str = "started"
    attempt: int = 1
    payload: Any = None
    stale: bool = False
    chunks: dict[int, Any] = field(default_factory=dict)
    holes: bool = False
    unmarked: bool = False
    awaited: bool = False  # the next chunk is the attempt's whole text
    repaired: bool = False  # the text was compared with the step's output

    @property
    def over(self) -> bool:
        return self.status in ENDS.values()

    @property
    def length(self) -> int:
        return max(self.chunks, default=-1) + 1

    @property
    def text(self) -> str:
        return "".join(chunk for _, chunk in sorted(self.chunks.items()) if isinstance(chunk, str))

    @property
    def complete(self) -> bool:
        return self.repaired or (not self.doubted and not self.holes and len(self.chunks) == self.length)

    def clear(self) -> None:
        self.chunks = {}
        self.holes = self.unmarked = self.awaited = self.repaired = False

    def begin(self, attempt: int) -> None:
        self.clear()
        self.doubted = self.stale = False
        self.attempt, self.status, self.payload = attempt, "started", None

    def repair(self, chunk: Any, index: int | None) -> None:
        """A chunk that the proxy made from the step's output: the whole text, or its missing end."""
        if self.repaired:
            return
        repaired = index == self.length == len(self.chunks) and not self.holes
        if index == 0 or self.awaited or (self.stale and index is None):
            self.clear()
            self.stale = False
            repaired = True
        self.add(chunk, index, marked=True)
        self.repaired = repaired
        self.doubted = self.doubted and not repaired

    def add(self, chunk: Any, index: int | None, *, marked: bool) -> None:
        if self.repaired:
            return
        if index is None:
            if self.stale:
                self.clear()
                self.holes = True
            index = self.length
            self.holes = self.holes or self.doubted
        self.stale = False
        self.unmarked = self.unmarked or not marked
        if index in self.chunks:
            return
        if index >= self.length:
            self.doubted = False
        self.chunks[index] = chunk
        if not self.over:
            self.status = "streaming"


class RunPicture:
    """A run by the frames of a stream so far; `wrong` collects what no stream may send."""

    def __init__(self) -> None:
        self.steps: dict[str, StepPicture] = {}
        self.status = "running"
        self.payload: Any = None
        self.gaps: list[Mapping[str, Any]] = []
        self.doubted = False
        self.wrong: list[str] = []
        self._received: dict[
            tuple[Any, ...], int
        ] = {}  # what was received, and how many restarts there had been by then
        self._restarts = 0

    @property
    def ended(self) -> bool:
        return self.status != "running"

    @property
    def complete(self) -> bool:
        return all(step.complete for step in self.steps.values())

    def frame(self, frame: Frame) -> None:
        """Take one frame."""
        if self.ended and frame.event != "stream.drain":
            self.wrong.append(f"{frame.event} after the verified end")
        if frame.event == "stream.gap":
            self._gap(frame.value)
        elif frame.event == "stream.reset":
            self._reset(frame.value)
        elif frame.event == "stream.end":
            self.status = frame.value["status"]
        elif frame.event not in CONTROL_FRAMES:
            event = read_frame(frame.event, frame.value)
            if event is not None:
                self._event(event)

    def _step(self, name: str) -> StepPicture:
        return self.steps.setdefault(name, StepPicture(name, self.doubted))

    def _gap(self, gap: Mapping[str, Any]) -> None:
        self.gaps.append(gap)
        self._restarts += gap["cause"] in RESTARTS
        if gap["step"] is not None:
            step = self._step(gap["step"])
            attempt = step.attempt if gap["attempt"] is None else gap["attempt"]
            if attempt > step.attempt:
                step.begin(attempt)
            step.doubted = step.doubted or attempt == step.attempt
            return
        self.doubted = True
        for step in self.steps.values():
            step.doubted = step.doubted or not step.over or not step.complete
            step.stale = gap["cause"] == "unknown_cursor"

    def _reset(self, reset: Mapping[str, Any]) -> None:
        step = self._step(reset["step"])
        if reset["attempt"] > step.attempt:
            step.begin(reset["attempt"])
        elif (reset.get("whole") and reset["attempt"] == step.attempt) or step.unmarked:
            step.clear()
        if reset.get("whole") and reset["attempt"] == step.attempt:
            step.awaited = True
            self._forget_chunks(step)

    def _event(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind.startswith("run_"):
            self.payload = event["payload"]
        self._note(event)
        if not isinstance(event.get("step"), str) or not kind.startswith("step_"):
            return
        known = event["step"] in self.steps
        step = self._step(event["step"])
        named = event.get("attempt")
        attempt = step.attempt if named is None else named
        if attempt < step.attempt and kind not in ENDS:
            return  # an earlier attempt, sent again; an end counts whichever attempt it names
        if attempt > step.attempt:
            step.begin(attempt)
        if kind == "step_stream":
            self._chunk(step, event, marked=named is not None)
        elif kind in ENDS:
            step.status, step.payload = ENDS[kind], event["payload"]
        elif kind == "step_retrying" and not step.over:
            step.status, step.payload = "retrying", event["payload"]
        elif kind == "step_started" and not known and event.get("recovered") is False:
            step.doubted = False

    def _chunk(self, step: StepPicture, event: Mapping[str, Any], *, marked: bool) -> None:
        index = event.get("index")
        if event.get("recovered") or step.awaited:
            step.repair(event["payload"], index)
            return
        if step.repaired:
            return
        first = event.get("first_index")
        begun = index if first is None else first
        if index is not None and begun is not None and begun > step.length and not step.doubted:
            self.wrong.append(
                f"{step.name}: chunks {step.length} to {begun - 1} of attempt {step.attempt} "
                "lost without a gap"
            )
        if index in step.chunks and step.chunks[index] != event["payload"]:
            self.wrong.append(f"{step.name}: chunk {index} of attempt {step.attempt} received with two texts")
        if index is None or first is None or first >= index:
            step.add(event["payload"], index, marked=marked)
            return
        step.holes = step.holes or (step.doubted and first <= step.length)
        merged = event["payload"]
        parts = merged if isinstance(merged, list) and len(merged) == index - first + 1 else [merged]
        for place in range(first, index + 1):
            part = parts[place - first] if place - first < len(parts) else ""
            step.add(part, place, marked=marked)

    def _note(self, event: Mapping[str, Any]) -> None:
        """Record an event; report one that came twice within one process, or out of order."""
        key = (event["type"], event.get("step"), event.get("attempt"), event.get("index"))
        if event["type"] == "step_stream" and event.get("index") is None:
            return
        if self._received.get(key) == self._restarts:
            self.wrong.append(f"{key} doubled")
        if event["type"] == "step_stream" and self._out_of_order(key):
            self.wrong.append(f"{key} out of order")
        self._received[key] = self._restarts

    def _forget_chunks(self, step: StepPicture) -> None:
        """The chunks of the attempt are void: its text comes again, from index 0."""
        for key in [key for key in self._received if key[:3] == ("step_stream", step.name, step.attempt)]:
            del self._received[key]
        self._received.pop(("newest", step.name, step.attempt, self._restarts), None)

    def _out_of_order(self, key: tuple[Any, ...]) -> bool:
        _, step, attempt, index = key
        newest = self._received.get(("newest", step, attempt, self._restarts), -1)
        self._received[("newest", step, attempt, self._restarts)] = max(newest, index)
        return bool(index < newest)


@dataclass(frozen=True, slots=True)
class TrueStep:
    """The truth of a step: its last attempt, how it ended, and all that this attempt streamed."""

    status: str
    chunks: tuple[str, ...] = ()
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of a run, from its source."""

    status: str
    steps: Mapping[str, TrueStep]


def judge(picture: RunPicture, truth: Truth) -> list[str]:
    """All differences of an ended run's picture from the truth that no gap announces."""
    found = list(picture.wrong)
    if not picture.ended:
        return [*found, "no verified end"]
    if picture.status != truth.status:
        found.append(f"a false end: {picture.status}, in truth {truth.status}")
    found += [f"{name}: no such step" for name in picture.steps if name not in truth.steps]
    for name, true in truth.steps.items():
        step = picture.steps.get(name)
        found += (
            [f"{name}: never received"]
            if step is None
            else [f"{name}: {what}" for what in compare(step, true)]
        )
    return found


def compare(step: StepPicture, true: TrueStep) -> Iterator[str]:
    """Where one step's picture is wrong rather than incomplete."""
    if step.status != true.status:
        yield f"{step.status}, in truth {true.status}"
    if step.attempt < true.attempt and step.doubted:
        return  # joined while the history was unreachable: the attempt was a guess, and a gap was sent
    if step.attempt != true.attempt:
        yield f"attempt {step.attempt}, in truth {true.attempt}"
        return
    if step.repaired:
        if step.text != "".join(true.chunks):
            yield "a repaired text that is not what was sent"
        return
    if any(index >= len(true.chunks) or true.chunks[index] != chunk for index, chunk in step.chunks.items()):
        yield "a chunk that was never sent"
    if step.complete and step.text != "".join(true.chunks):
        yield f"{len(true.chunks) - len(step.chunks)} chunks lost without a gap"
