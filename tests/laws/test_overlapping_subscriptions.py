"""Subscriptions of one run that overlap, in every order of opening and closing: each loss is announced.

One step streams. Two or three subscriptions, by run id (the engine holds back what does not begin at index 0)
and by metadata, open and end at any time, closed by us or broken; a break is noticed later than it happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.events import STEP_STREAM, Event, GapCause, StepGap
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.subscription_state import SubscriptionState
from tests.support.property_settings import many
from tests.support.reconciler_world import LIFECYCLE_WAIT, World, legal
from tests.support.worlds import RUN, stamp

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work

STEP = "00000000-0000-0000-0000-000000000064"
HOLD = 5.0  # seconds that the engine holds chunks back by run id


@dataclass
class Span:
    """When a subscription is open: it delivers nothing after `dead`, and its end is noticed at `gone`."""

    ordered: bool
    opened: float
    dead: float
    gone: float
    broken: bool
    subscription: SubscriptionState | None = None


@dataclass
class Scenario:
    """One generated run: when its chunks are sent, when it ends, and its subscriptions."""

    chunks: list[float]
    end: float
    spans: list[Span]

    def delivered(self, span: Span) -> list[tuple[float, LiveEvent]]:
        """The events that this subscription delivers, with their times."""
        sent = [(t, index) for index, t in enumerate(self.chunks) if span.opened < t]
        events = []
        if span.opened < 0:
            events.append((0.0, LiveEvent(RUN, Kind.STARTED, STEP, "", stamp(0), 0)))
        late = 0.0
        if span.ordered and sent and sent[0][1] > 0:
            late = min(sent[0][0] + HOLD, self.end)
        for t, index in sent:
            chunk = LiveEvent(RUN, Kind.STREAM, STEP, str(index), stamp(t), None, index)
            events.append((max(t, late), chunk))
        if span.opened < self.end:
            events.append((self.end, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", stamp(self.end), 0)))
        return [(t, event) for t, event in events if t < span.dead]

    def core_at(self, t: float) -> CoreState:
        done = t >= self.end + 0.1
        status = Status.COMPLETED if done else Status.RUNNING if t >= 0 else Status.QUEUED
        return CoreState(RUN, status, done, (CoreStep("one", STEP, status, "{}" if done else None),))

    def past_at(self, t: float) -> PastState:
        status = Status.COMPLETED if t >= self.end else Status.RUNNING if t >= 0 else Status.QUEUED
        return PastState(RUN, status, (PastStep("one", STEP, status, 0, 2, created_at=stamp(0)),))


def scenario(rng: Random) -> Scenario:
    chunks = [0.05]
    for _ in range(rng.choice([1, 3, 6])):
        chunks.append(chunks[-1] + rng.choice([0.02, 0.3, 1.0, 4.0]))
    end = chunks[-1] + rng.choice([0.02, 0.5, 3.0, 8.0])
    spans: list[Span] = []
    for _ in range(rng.choice([2, 3, 3])):
        near = [0.0, 0.01, 0.06, 0.3, 1.0]
        before = [span.gone for span in spans] + [span.opened for span in spans] + [rng.uniform(0, end)]
        opened = rng.choice([-0.5, 0.06, rng.choice(before) + rng.choice(near)])
        broken = rng.random() < 0.5
        gone = opened + rng.choice([0.3, 1.0, 6.0, 100.0])
        dead = gone - rng.choice([0.0, 0.1, 0.25]) if broken else gone
        spans.append(Span(rng.random() < 0.6, opened, dead, gone, broken))
    for span in spans:  # a subscription is only closed in favour of another: one without another has broken
        others = [one for one in spans if one is not span and one.opened < span.gone < one.gone]
        span.broken = span.broken or not others
    return Scenario(chunks, end, spans)


def run_world(made: Scenario, world: World) -> World:
    world.now = min(span.opened for span in made.spans)
    world.start()
    script: list[tuple[float, int, Span, LiveEvent | None]] = []
    for span in made.spans:
        script.append((span.opened, 0, span, None))
        script += [(t + 0.001, 1, span, event) for t, event in made.delivered(span)]
        script.append((span.gone, 2, span, None))
    for t, what, span, event in sorted(script, key=lambda entry: entry[:2]):
        world.until(t)
        if what == 0:
            span.subscription = world.open(ordered=span.ordered)
        elif span.subscription is not None and event is not None:
            world.emit(span.subscription, event)
        elif span.subscription is not None:
            world.close(span.subscription, GapCause.UPSTREAM if span.broken else None)
    world.until(max(world.now, made.end) + LIFECYCLE_WAIT)
    return world


@many(1000)
@given(st.integers(min_value=0, max_value=2**48))
@example(315)  # the step was waiting when its subscriptions broke
@example(6430)  # the subscription that delivered the chunks had broken, and another delivered the end
def test_overlapping_subscriptions_lose_no_chunk_without_a_gap(seed: int) -> None:
    made = scenario(Random(seed))
    items = run_world(made, World(Reconciler(RUN), made.core_at, made.past_at)).items
    legal(items)
    received = {item.index for item in items if isinstance(item, Event) and item.type == STEP_STREAM}
    gaps = [item for item in items if isinstance(item, StepGap)]  # after the end, of what came late
    assert gaps or len(received) == len(made.chunks)
