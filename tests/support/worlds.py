"""Generated runs: the truth, what the engine's sources say of it at any time, and what gets lost.

A `Truth` is a run of steps with attempts and chunks on a time line. From it follow the core state and the
history at any time, and the live events. `faulty_subscriptions` deliver with faults: events lost, doubled,
late; false ends; subscriptions that break. Every chunk's payload says which attempt and index it has, so the
items can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from proxy.core.events import STEP_FAILED, STEP_RETRYING, STEP_STREAM, Event, Item, StepGap
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
from tests.support.clocks import ClockJump, wrong_by

RUN = str(UUID(int=1))
SHORTEST_TIMEOUT = 1.0  # seconds: the engine looks once a second


def stamp(t: float) -> int:
    return 1_767_225_600_000_000_000 + round(t * 1e6) * 1000


@dataclass
class Try:
    """One attempt: when it began, its chunks, when and how it ended."""

    began: float
    chunks: list[float]
    ended: float
    failed: bool


@dataclass
class TrueStep:
    name: str
    id: str
    created: float
    tries: list[Try]
    end: str  # completed | failed | timed_out | cancelled | skipped
    ended: float
    retries: int


@dataclass
class Truth:
    """What happened."""

    steps: list[TrueStep]
    status: Status
    done: float
    dag: bool
    known: float = 0.0
    silent: bool = False  # lifecycle events are off: only a history in time shows where an attempt ends
    jumps: list[ClockJump] = field(default_factory=list)

    def by_engine(self, t: float) -> int:
        """What the engine's clock says."""
        return stamp(t + wrong_by([one for one in self.jumps if one.engine], t))

    def by_workers(self, t: float) -> int:
        """What the workers' clock says."""
        return stamp(t + wrong_by(self.jumps, t))

    def core_at(self, t: float) -> CoreState | None:
        if t < self.known:
            return None
        done = t >= self.done
        steps = [self._core_step(step, t, done) for step in self.steps if step.created <= t]
        running = any(step.status is Status.RUNNING for step in steps)
        status = self.status if done else Status.RUNNING if running else Status.QUEUED
        return CoreState(RUN, status, done, tuple(steps), {"traceparent": "x"})

    def _core_step(self, step: TrueStep, t: float, done: bool) -> CoreStep:
        if not done:
            running = any(a.began <= t < a.ended for a in step.tries)
            return CoreStep(step.name, step.id, Status.RUNNING if running else Status.QUEUED)
        if step.end == "skipped":
            return CoreStep(step.name, step.id, Status.COMPLETED, '{"skipped": true}')
        if step.end == "completed":
            return CoreStep(step.name, step.id, Status.COMPLETED, f'{{"out": "{step.name}"}}')
        if step.end == "cancelled":
            return CoreStep(step.name, step.id, Status.CANCELLED)
        return CoreStep(step.name, step.id, Status.FAILED, None, error(step, len(step.tries)))

    def past_at(self, t: float) -> PastState | None:
        if t < self.known:
            return None
        steps = tuple(self._past_step(step, t) for step in self.steps if step.created <= t)
        return PastState(RUN, self.status if t >= self.done else Status.RUNNING, steps)

    def _past_step(self, step: TrueStep, t: float) -> PastStep:
        begun = [a for a in step.tries if a.began <= t]
        failures = [n for n, a in enumerate(step.tries) if a.failed and a.ended <= t]
        events = [
            PastTaskEvent(
                "TIMED_OUT" if timed_out(step, n + 1) else "FAILED",
                self.by_engine(step.tries[n].ended),
                n,
                error(step, n + 1),
            )
            for n in failures
        ]
        retry = len(failures) if len(failures) < len(step.tries) else len(step.tries) - 1
        waits = len(failures) < len(step.tries) and len(begun) <= len(failures)
        status = Status.QUEUED if waits or not begun else Status.RUNNING
        if failures and waits and t < step.tries[failures[-1]].ended + 0.06:
            retry, status = len(failures) - 1, Status.FAILED
        if t >= step.ended:
            retry = max(len(step.tries) - 1, 0)
            status = {
                "completed": Status.COMPLETED,
                "skipped": Status.COMPLETED,
                "cancelled": Status.CANCELLED,
            }.get(step.end, Status.FAILED)
            if step.end == "skipped":
                events.append(PastTaskEvent("SKIPPED", self.by_engine(step.ended), 0))
        return PastStep(
            step.name,
            step.id,
            status,
            max(retry, 0),
            step.retries if self.dag else None,
            {"out": step.name} if status is Status.COMPLETED and step.end == "completed" else {},
            None if status is not Status.FAILED or timed_out(step, retry + 1) else error(step, retry + 1),
            created_at=self.by_engine(step.created),
            started_at=self.by_engine(begun[-1].began) if begun else None,
            finished_at=self.by_engine(step.ended) if t >= step.ended else None,
            events=tuple(events) if self.dag else (),
        )

    def may_lose(self, event: LiveEvent) -> bool:
        """Whether its loss can be noticed: a last chunk's, or that of a failure without chunks, cannot."""
        step = next((step for step in self.steps if step.id == event.step_run_id), None)
        if step is None:
            return True
        if event.kind is Kind.FAILED:
            return bool(step.tries[event.retry_count or 0].chunks)
        last = {len(one.chunks) - 1 for one in step.tries}
        return event.kind is not Kind.STREAM or event.index not in last

    def live(self) -> list[tuple[float, LiveEvent]]:
        """The events of an ideal subscription."""
        events: list[tuple[float, LiveEvent]] = []
        for step in self.steps:
            events.append(
                (step.created, LiveEvent(RUN, Kind.STARTED, step.id, "", self.by_engine(step.created), 0))
            )
            for n, one in enumerate(step.tries):
                for index, t in enumerate(one.chunks):
                    events.append(
                        (
                            t,
                            LiveEvent(
                                RUN,
                                Kind.STREAM,
                                step.id,
                                mark(step.id, n + 1, index),
                                self.by_workers(t),
                                None,
                                index,
                            ),
                        )
                    )
                if one.failed and not (step.end == "timed_out" and n == len(step.tries) - 1):
                    events.append(
                        (
                            one.ended,
                            LiveEvent(
                                RUN, Kind.FAILED, step.id, error(step, n + 1), self.by_engine(one.ended), n
                            ),
                        )
                    )
            if step.end == "completed":
                text = f'{{"out":"{step.name}"}}'
                n = len(step.tries) - 1
                events.append(
                    (step.ended, LiveEvent(RUN, Kind.COMPLETED, step.id, text, self.by_engine(step.ended), n))
                )
        kind = Kind[self.status.value]
        events.append(
            (self.done - 0.05, LiveEvent(RUN, kind, None, "", self.by_engine(self.done)))
        )  # it stays open
        return sorted(events, key=lambda entry: entry[0])


def timed_out(step: TrueStep, attempt: int) -> bool:
    """Whether that attempt timed out: the history shows it in its events only."""
    return step.end == "timed_out" and attempt == len(step.tries)


def error(step: TrueStep, attempt: int) -> str:
    if timed_out(step, attempt):
        return f"Task exceeded timeout of {attempt}s"
    return f"ValueError: {step.name} {attempt}\nTraceback"


def mark(step_id: str, attempt: int, index: int) -> str:
    return f"{step_id}/{attempt}/{index}"


def truth(rng: Random) -> Truth:
    """A run: a chain (or a single task) of steps with retries, chunks and every kind of end."""
    dag = rng.random() < 0.7
    steps: list[TrueStep] = []
    t = 0.0
    status = Status.COMPLETED
    for n in range(rng.randint(1, 4) if dag else 1):
        created = t + rng.choice([0.0, 0.01, 0.3])
        ends = ["completed"] * 5 + ["failed", "timed_out", "cancelled"] + (["skipped"] if dag else [])
        end = rng.choice(ends)
        tries: list[Try] = []
        began = created + rng.choice([0.005, 0.05, 1.0])
        attempts = 0 if end == "skipped" else rng.choice([1, 1, 1, 2, 3])
        for attempt in range(attempts):
            pace = rng.choice([0.001, 0.02, 0.3])
            chunks = [began + (i + 1) * pace for i in range(rng.choice([0, 0, 1, 3, 6]))]
            ended = (chunks[-1] if chunks else began) + rng.choice([0.002, 0.1, 2.0])
            if end == "timed_out" and attempt == attempts - 1:
                ended = max(ended, began + SHORTEST_TIMEOUT)
            failed = attempt < attempts - 1 or end in {"failed", "timed_out"}
            tries.append(Try(began, chunks, ended, failed))
            began = ended + rng.choice([0.03, 0.2, 3.0])
        ended = tries[-1].ended if tries else created + 0.1
        used_up = end in {"failed", "timed_out"} and rng.random() < 0.5
        retries = max(attempts - 1, 0) if used_up else attempts + 2
        steps.append(
            TrueStep(
                f"step{n}", RUN if not dag else str(UUID(int=100 + n)), created, tries, end, ended, retries
            )
        )
        t = ended
        if end in {"failed", "timed_out", "cancelled"}:
            status = Status.CANCELLED if end == "cancelled" else Status.FAILED
            break
    return Truth(steps, status, t + rng.choice([0.06, 0.2, 0.5]), dag)


@dataclass
class SubscriptionScript:
    """A subscription: when it opens, when it ends, and the events that it brings in between."""

    ordered: bool
    opened: float
    ended: float
    events: list[tuple[float, LiveEvent]] = field(default_factory=list)


def faulty_subscriptions(rng: Random, run: Truth, *, silent: bool = False) -> list[SubscriptionScript]:
    """What subscriptions brought: one after the other or two at once; lossy, doubled, late, falsely ended."""
    lossy = rng.choice([0.0, 0.0, 0.1, 0.4])
    doubled = rng.choice([0.0, 0.1])
    late = rng.choice([0.0, 0.0, 0.2])
    silent = run.silent = rng.random() < 0.1 or silent
    subscriptions: list[SubscriptionScript] = []
    for _ in range(rng.choice([1, 1, 2])):
        ordered = rng.random() < 0.6
        t = rng.choice([-0.5, 0.02, rng.uniform(0.0, run.done)])
        while t < run.done + 1:
            breaks = rng.random() < 0.6
            ended = t + rng.choice([0.05, 0.5, 2.0]) if breaks else run.done + rng.choice([0.0, 0.02, 3.0])
            subscription = SubscriptionScript(ordered, t, max(ended, t))
            for at, event in run.live():
                if silent and event.kind is not Kind.STREAM:
                    continue
                if not subscription.opened <= at <= subscription.ended or (
                    rng.random() < lossy and run.may_lose(event)
                ):
                    continue
                firm = ordered or event.index == 0 or event.kind is Kind.FAILED  # an attempt's bounds stay
                overtaken = not firm and rng.random() < late
                delay = rng.choice([0.01, 0.04]) if overtaken else 0.0
                subscription.events.append((at + delay, event))
                if rng.random() < doubled:
                    subscription.events.append((at + delay + rng.choice([0.0, 0.05]), event))
            if rng.random() < 0.4 and not run.done - 1 < subscription.ended < run.done:
                false = LiveEvent(RUN, rng.choice([Kind.COMPLETED, Kind.FAILED]), None, "", None, hangup=True)
                subscription.events.append((max(subscription.opened, subscription.ended - 0.001), false))
            subscription.events.sort(key=lambda entry: entry[0])
            subscriptions.append(subscription)
            t = subscription.ended + rng.choice([0.001, 0.1, 1.0])
    return subscriptions


def unannounced_losses(run: Truth, items: Sequence[Item], *, lags: bool = False) -> list[str]:
    """Chunks of a step's last attempt that were neither sent nor covered by a gap: there must be none.

    `lags`: the history may come too late to show the last attempt; then the gap is in the last one sent.
    """
    sent: dict[str, int] = {}
    for item in items:
        if isinstance(item, Event) and item.step_run_id is not None and item.attempt is not None:
            sent[item.step_run_id] = max(item.attempt, sent.get(item.step_run_id, 1))
    received = {item.payload for item in items if isinstance(item, Event) and item.type == STEP_STREAM}
    gaps = {(item.step, item.attempt) for item in items if isinstance(item, StepGap)}
    missing = []
    for step in run.steps:
        attempt = len(step.tries)
        gap_in = min(attempt, sent.get(step.id, 1)) if lags else attempt
        if not step.tries or (step.name, gap_in) in gaps or (None, None) in gaps:
            continue
        chunks = [mark(step.id, attempt, index) for index in range(len(step.tries[-1].chunks))]
        missing += [chunk for chunk in chunks if chunk not in received]
    return missing


def misplaced(items: Sequence[Item], *, lags: bool) -> list[str]:
    """Chunks sent under a wrong attempt or index.

    `lags`: the attempts before and after a retry that only a late history showed are not judged.
    """
    blind = {
        (item.step_run_id, (item.attempt or 0) + after)
        for item in items
        for after in (0, 1)
        if lags and isinstance(item, Event) and item.type == STEP_RETRYING and item.recovered
    }
    return [
        f"{item.payload} sent as {item.attempt}/{item.index}"
        for item in items
        if isinstance(item, Event)
        and item.type == STEP_STREAM
        and (item.step_run_id, item.attempt) not in blind
        and item.payload != mark(str(item.step_run_id), item.attempt or 0, item.index or 0)
    ]


def undecidable(run: Truth, subscriptions: Sequence[SubscriptionScript], items: Sequence[Item]) -> set[str]:
    """Chunks of a retry that continued the failed attempt's when they came, as `misplaced` names them.

    The failure was lost, and the retry's first chunks were lost or late: nothing that had come by then
    distinguishes the two, and a chunk waits for nothing. Only the last attempt's text counts: such a chunk is
    void by the reset that follows, and a gap in the attempt that it was sent as must say so.
    """
    last = {step.id: len(step.tries) for step in run.steps}
    names = {step.name: step.id for step in run.steps}
    gaps = {(names[item.step], item.attempt) for item in items if isinstance(item, StepGap) and item.step}
    came = sorted(((t, e) for one in subscriptions for t, e in one.events), key=lambda entry: entry[0])
    found = set()
    for step in run.steps:
        for attempt in range(1, last[step.id]):
            if (step.id, attempt) in gaps:
                chunks = _that_continue(step.id, attempt, [event for _, event in came])
                found |= {f"{event.payload} sent as {attempt}/{event.index}" for event in chunks}
    return found


def _that_continue(step_id: str, attempt: int, came: Sequence[LiveEvent]) -> list[LiveEvent]:
    """The chunks of later attempts that came before anything showed that `attempt` was over."""
    highest = -1
    seen: set[str] = set()
    found: list[LiveEvent] = []
    for event in came:
        if event.step_run_id != step_id:
            continue
        if event.kind is not Kind.STREAM:
            if event.kind is not Kind.STARTED and (event.retry_count or 0) >= attempt - 1:
                return found
            continue
        index, sent_in = event.index or 0, int(event.payload.split("/")[1])
        if sent_in < attempt or event.payload in seen:
            continue
        if (sent_in > attempt and index <= highest) or not (seen or sent_in == attempt):
            return found
        if sent_in == attempt and any(each.index == index for each in found):
            return found
        seen.add(event.payload)
        highest = max(highest, index)
        if sent_in > attempt:
            found.append(event)
    return found


def failures_without_message(items: Sequence[Item]) -> list[str | None]:
    """Steps whose failure was not sent, although the states have it."""
    return [
        item.step
        for item in items
        if isinstance(item, Event) and item.type == STEP_FAILED and not item.payload["message"]
    ]
