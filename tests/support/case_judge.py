"""Compares what a client received of a run with the worker's own log of what it sent.

A stream that is judged forwards everything, with type, step, attempt, index, payload, recovered and at. The
chunks' texts are those of `tests.support.case_worker`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.eventsource import Frame

ENDS: Final = frozenset({"step_completed", "step_failed", "step_cancelled", "step_skipped"})
STOPPED: Final = 0.3  # seconds before the next attempt from which on a stopped attempt's chunks may be void


@dataclass(frozen=True, slots=True)
class Sent:
    """One line of the log.

    `what`: began, chunk, returned or raised. `execution` counts the executions of a step in one process.
    """

    run_id: str
    step: str
    attempt: int
    execution: int
    what: str
    at: float
    pid: int
    index: int | None = None


def text(step: str, attempt: int, index: int) -> str:
    """The text of a chunk."""
    return f"{step}/{attempt}/{index} "


@dataclass(frozen=True, slots=True)
class Expected:
    """How a run ends by the contract: the status of its end, the end of each step, the steps' parents."""

    status: str
    ends: Mapping[str, str]
    parents: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """What is wrong, and the gaps: true, false, and false of a step that began before a subscription."""

    wrong: list[str] = field(default_factory=list)
    attempts: int = 0  # attempts that sent chunks
    whole: int = 0  # ... of which every chunk was received
    announced: int = 0  # ... of which some were not, and a gap announces it
    false: int = 0  # ... of which every chunk was received, and there is a gap
    begun_before: int = 0  # likewise, if the attempt may have begun before the first subscription

    def __iadd__(self, other: Verdict) -> Verdict:
        self.wrong += other.wrong
        self.attempts += other.attempts
        self.whole += other.whole
        self.announced += other.announced
        self.false += other.false
        self.begun_before += other.begun_before
        return self

    def __str__(self) -> str:
        parts = (
            f"{self.attempts} attempts, {self.whole} whole, {self.announced} announced, {self.false} false"
        )
        return f"{parts}, {self.begun_before} false of early attempts, {len(self.wrong)} wrong"


class Reading:
    """One client's frames, taken in order; `wrong` has what no stream may say."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.received: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.gaps: set[tuple[str | None, int | None]] = set()
        self.causes: dict[tuple[str | None, int | None], set[str]] = defaultdict(set)
        self.ends: dict[str, Mapping[str, Any]] = {}
        self.started: set[str] = set()
        self.run: Mapping[str, Any] | None = None
        self.status: str | None = None
        self.order: list[tuple[str, str | None]] = []
        self._attempt: dict[str, int] = defaultdict(lambda: 1)
        self._last_gap: tuple[str | None, int | None] | None = None

    def take(self, frame: Frame) -> None:
        """The next frame."""
        value = frame.value
        if self.status is not None:
            self.wrong.append(f"{frame.event} after the end")
        if frame.event == "stream.gap":
            self._gap(value)
        elif frame.event == "stream.reset":
            self._begin(value["step"], value["attempt"])
        elif frame.event == "stream.end":
            self.status = value["status"]
        elif frame.event == "message":
            self._event(value)
        else:
            self.wrong.append(f"{frame.event} {frame.data[:80]}")

    def _gap(self, gap: Mapping[str, Any]) -> None:
        key = (gap["step"], gap["attempt"])
        self.gaps.add(key)
        self.causes[key].add(gap["cause"])
        if key == self._last_gap:
            self.wrong.append(f"two gaps in a row for {key}")
        if gap["step"] in self.ends:
            self.wrong.append(f"a gap after the end of {gap['step']}")
        self._last_gap = key
        self.order.append(("gap", gap["step"]))

    def _begin(self, step: str, attempt: int) -> None:
        if attempt < self._attempt[step]:
            self.wrong.append(f"{step}: attempt {attempt} after attempt {self._attempt[step]}")
        self._attempt[step] = attempt

    def _event(self, event: Mapping[str, Any]) -> None:
        kind, step = event["type"], event["step"]
        self.order.append((kind, step))
        if self.run is not None:
            self.wrong.append(f"{kind} of {step} after the run's own end")
        if kind.startswith("run_"):
            self.run = event
            return
        if step in self.ends:
            self.wrong.append(f"{kind} of {step} after its end")
        if kind == "step_stream":
            self._chunk(event)
        elif kind == "step_started":
            if step in self.started:
                self.wrong.append(f"{step} started twice")
            self.started.add(step)
        elif kind in ENDS:
            self.ends[step] = event

    def _chunk(self, event: Mapping[str, Any]) -> None:
        step, attempt, index = event["step"], event["attempt"], event["index"]
        self._last_gap = None
        self._begin(step, attempt)
        if step not in self.started:
            self.wrong.append(f"{step}: a chunk before step_started")
        if event["payload"] != text(step, attempt, index):
            self.wrong.append(f"WRONG ATTEMPT {step}/{attempt}/{index} is {event['payload'][:40]!r}")
        received = self.received[step, attempt]
        if index in received:
            self.wrong.append(f"DOUBLE {step}/{attempt}/{index}")
        elif received and index < max(received):
            self.wrong.append(f"out of order: {step}/{attempt}/{index}")
        received.add(index)

    def covered(self, step: str, attempt: int) -> bool:
        """Whether a gap says that chunks of an attempt are missing."""
        return bool(self.gaps & {(step, attempt), (step, None), (None, None)})


def judge(
    frames: Sequence[Frame], sent: Sequence[Sent], expected: Expected, listening_since: float
) -> Verdict:
    """Compare what a client received with the log of a run.

    `listening_since`: when the proxy's first subscription to the run was open, in seconds since 1970.
    """
    reading = Reading()
    for frame in frames:
        reading.take(frame)
    verdict = Verdict(reading.wrong)
    _ends(verdict, reading, sent, expected)
    _order(verdict, reading, expected)
    attempts = sorted({(line.step, line.attempt) for line in sent})
    for step, attempt in attempts:
        _attempt(verdict, reading, sent, (step, attempt), listening_since)
    for gap in sorted(reading.gaps, key=str):
        ran = gap[0] is None or any(line.step == gap[0] and gap[1] in {None, line.attempt} for line in sent)
        verdict.false += not ran  # right only where the history is far behind
    return verdict


def _ends(verdict: Verdict, reading: Reading, sent: Sequence[Sent], expected: Expected) -> None:
    if reading.status != expected.status:
        verdict.wrong.append(f"end {reading.status} instead of {expected.status}")
    received = {step: event["type"] for step, event in reading.ends.items()}
    if received != dict(expected.ends):
        verdict.wrong.append(f"ends {received} instead of {dict(expected.ends)}")
    for step, event in reading.ends.items():
        last = max((line.attempt for line in sent if line.step == step), default=None)
        if last is not None and event["attempt"] != last:
            verdict.wrong.append(f"{event['type']} of {step}/{event['attempt']}, in truth of attempt {last}")
        if last is not None and step not in reading.started:
            verdict.wrong.append(f"{step} ran and was not started")


def _order(verdict: Verdict, reading: Reading, expected: Expected) -> None:
    for step, parents in expected.parents.items():
        first = next((n for n, (_, of) in enumerate(reading.order) if of == step), None)
        for parent in parents:
            end = next(
                (n for n, (kind, of) in enumerate(reading.order) if of == parent and kind in ENDS), None
            )
            late = parent in reading.ends and reading.ends[parent]["recovered"]  # the history was far behind
            if first is not None and end is not None and first < end and not late:
                verdict.wrong.append(f"{step} began before the end of {parent}")


def _attempt(
    verdict: Verdict,
    reading: Reading,
    sent: Sequence[Sent],
    which: tuple[str, int],
    listening_since: float,
) -> None:
    step, attempt = which
    lines = [line for line in sent if (line.step, line.attempt) == which]
    chunks = _not_void(lines, [line for line in sent if line.step == step and line.attempt > attempt])
    if not chunks:
        return
    verdict.attempts += 1
    received, covered = reading.received[which], reading.covered(step, attempt)
    missing = sorted(chunks - received)
    if missing and not covered:
        verdict.wrong.append(f"UNANNOUNCED {step}/{attempt}: {len(missing)} of {len(chunks)}: {missing[:8]}")
    elif missing:
        verdict.announced += 1
    else:
        verdict.whole += 1
        if covered:
            late = lines[0].at < listening_since and "joined_late" in reading.causes.get(which, ())
            verdict.begun_before += late
            verdict.false += not late


def _not_void(lines: Sequence[Sent], later: Sequence[Sent]) -> set[int]:
    """The indices that a client must receive: none of code that went on after its attempt was stopped."""
    chunks = {line.index: line.at for line in lines if line.what == "chunk" and line.index is not None}
    until = min((line.at for line in later), default=float("inf"))
    ended = [line.at for line in lines if line.what in {"returned", "raised"} and line.at <= until]
    if not ended:
        until -= STOPPED
        if chunks and len({line.pid for line in [*lines, *later]}) > 1:
            del chunks[max(chunks)]  # the process may have been killed before it was sent
    return {index for index, at in chunks.items() if at <= until}
