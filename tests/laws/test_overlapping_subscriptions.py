"""Subscriptions of one run that overlap, in every order of opening and closing: no chunk is lost unsaid.

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
from tests.support.playing import LIFECYCLE_WAIT, World, legal
from tests.support.thousands import many
from tests.support.worlds import RUN, stamp

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work

STEP = "00000000-0000-0000-0000-000000000064"
HOLD = 5.0  # seconds that the engine holds chunks back by run id


@dataclass
class Cord:
    """A subscription's true life: it tells nothing more after `dead`, and that is heard of at `gone`."""

    ordered: bool
    opened: float
    dead: float
    gone: float
    broken: bool
    subscription: SubscriptionState | None = None


@dataclass
class Play:
    """What happens."""

    chunks: list[float]
    end: float
    cords: list[Cord]

    def told(self, cord: Cord) -> list[tuple[float, LiveEvent]]:
        """What that subscription tells, and when."""
        heard = [(t, index) for index, t in enumerate(self.chunks) if cord.opened < t]
        events = []
        if cord.opened < 0:
            events.append((0.0, LiveEvent(RUN, Kind.STARTED, STEP, "", stamp(0), 0)))
        late = 0.0
        if cord.ordered and heard and heard[0][1] > 0:
            late = min(heard[0][0] + HOLD, self.end)
        for t, index in heard:
            chunk = LiveEvent(RUN, Kind.STREAM, STEP, str(index), stamp(t), None, index)
            events.append((max(t, late), chunk))
        if cord.opened < self.end:
            events.append((self.end, LiveEvent(RUN, Kind.COMPLETED, STEP, "{}", stamp(self.end), 0)))
        return [(t, event) for t, event in events if t < cord.dead]

    def core_at(self, t: float) -> CoreState:
        done = t >= self.end + 0.1
        status = Status.COMPLETED if done else Status.RUNNING if t >= 0 else Status.QUEUED
        return CoreState(RUN, status, done, (CoreStep("one", STEP, status, "{}" if done else None),))

    def past_at(self, t: float) -> PastState:
        status = Status.COMPLETED if t >= self.end else Status.RUNNING if t >= 0 else Status.QUEUED
        return PastState(RUN, status, (PastStep("one", STEP, status, 0, 2, created_at=stamp(0)),))


def play(rng: Random) -> Play:
    chunks = [0.05]
    for _ in range(rng.choice([1, 3, 6])):
        chunks.append(chunks[-1] + rng.choice([0.02, 0.3, 1.0, 4.0]))
    end = chunks[-1] + rng.choice([0.02, 0.5, 3.0, 8.0])
    cords: list[Cord] = []
    for _ in range(rng.choice([2, 3, 3])):
        near = [0.0, 0.01, 0.06, 0.3, 1.0]
        before = [cord.gone for cord in cords] + [cord.opened for cord in cords] + [rng.uniform(0, end)]
        opened = rng.choice([-0.5, 0.06, rng.choice(before) + rng.choice(near)])
        broken = rng.random() < 0.5
        gone = opened + rng.choice([0.3, 1.0, 6.0, 100.0])
        dead = gone - rng.choice([0.0, 0.1, 0.25]) if broken else gone
        cords.append(Cord(rng.random() < 0.6, opened, dead, gone, broken))
    for cord in cords:  # one subscription is given up for another only: what goes without another has broken
        others = [one for one in cords if one is not cord and one.opened < cord.gone < one.gone]
        cord.broken = cord.broken or not others
    return Play(chunks, end, cords)


def played(made: Play, world: World) -> World:
    world.now = min(cord.opened for cord in made.cords)
    world.start()
    script: list[tuple[float, int, Cord, LiveEvent | None]] = []
    for cord in made.cords:
        script.append((cord.opened, 0, cord, None))
        script += [(t + 0.001, 1, cord, event) for t, event in made.told(cord)]
        script.append((cord.gone, 2, cord, None))
    for t, what, cord, event in sorted(script, key=lambda entry: entry[:2]):
        world.until(t)
        if what == 0:
            cord.subscription = world.open(ordered=cord.ordered)
        elif cord.subscription is not None and event is not None:
            world.tell(cord.subscription, event)
        elif cord.subscription is not None:
            world.close(cord.subscription, GapCause.UPSTREAM if cord.broken else None)
    world.until(max(world.now, made.end) + LIFECYCLE_WAIT)
    return world


@many(1000)
@given(st.integers(min_value=0, max_value=2**48))
@example(315)  # it was waiting when its subscriptions broke, and began silent_so_far
@example(6430)  # the subscription that streamed it was dead, and another told its end
def test_of_subscriptions_that_overlap_none_takes_a_chunk_with_it_unsaid(seed: int) -> None:
    made = play(Random(seed))
    items = played(made, World(Reconciler(RUN), made.core_at, made.past_at)).items
    legal(items)
    told = {item.index for item in items if isinstance(item, Event) and item.type == STEP_STREAM}
    gaps = [item for item in items if isinstance(item, StepGap)]  # after the end, of what came late
    assert gaps or len(told) == len(made.chunks)
