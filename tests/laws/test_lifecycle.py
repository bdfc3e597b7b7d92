"""Thousands of generated runs with generated faults: the laws that hold for what the reconciler puts out."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.events import RUN_EVENTS, STEP_COMPLETED, End, Event
from proxy.runs.reconcile.rebuild import rebuild as restate
from proxy.runs.reconcile.reconciler import Reconciler
from tests.support.property_settings import many
from tests.support.reconciler_world import LIFECYCLE_WAIT, World, identities, legal
from tests.support.worlds import (
    RUN,
    SubscriptionScript,
    Truth,
    failures_without_message,
    faulty_subscriptions,
    misplaced,
    truth,
    unannounced_losses,
    undecidable,
)

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work

seeds = st.integers(min_value=0, max_value=2**48)


def play(run: Truth, subscriptions: list[SubscriptionScript], world: World) -> World:
    """Let all subscriptions deliver their events in the order of time."""
    script: list[tuple[float, int, int, object]] = []
    for n, subscription in enumerate(subscriptions):
        script.append((subscription.opened, 0, n, "open"))
        script += [(t, 1, n, event) for t, event in subscription.events]
        script.append((max([subscription.ended, *(t for t, _ in subscription.events)]), 2, n, "end"))
    script.sort(key=lambda entry: entry[:3])
    opened = {}
    world.now = script[0][0]
    world.start()
    for t, _, n, what in script:
        world.until(t)
        if what == "open":
            opened[n] = world.open(ordered=subscriptions[n].ordered)
        elif what == "end":
            world.close(opened[n])
        else:
            world.emit(opened[n], what)  # type: ignore[arg-type]
    world.until(max(world.now, run.done) + LIFECYCLE_WAIT)
    return world


def judged(run: Truth, subscriptions: list[SubscriptionScript], world: World) -> World:
    play(run, subscriptions, world)
    legal(world.items)
    assert isinstance(world.items[-1], End), "the end comes"
    assert world.items[-1].status == run.status.value.lower()
    wrong = misplaced(world.items, lags=world.past_lag > 0)
    assert not set(wrong) - undecidable(run, subscriptions, world.items)
    assert not unannounced_losses(run, world.items)
    assert not failures_without_message(world.items)
    return world


@many(700)
@given(seeds)
@example(1003307)  # a failure is lost, and a chunk out of order continues the attempt before
@example(1006920)  # the same on one subscription
@example(3054599)  # chunks that fit an execution of no known attempt, up to the last failure
@example(5142807)  # a retry's first chunk that comes continues the failed attempt, and its clock may be ahead
@example(2043059)  # the history counts two attempts, a subscription brings the end of the third
@example(
    20309543
)  # a failure and the retry's first chunk are lost, and its third continues the attempt before
@example(20414121)  # the same
@example(18509704)  # the same, with lifecycle events off
@example(1011834)  # chunks of the next attempt continue the one before, with others lost
def test_with_a_history_each_lifecycle_event_comes_out_exactly_once(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    subscriptions = faulty_subscriptions(rng, run)
    reconciler = Reconciler(RUN)
    world = World(reconciler, run.core_at, run.past_at, past_lag=rng.choice([0.0, 0.1]))
    judged(run, subscriptions, world)
    core, past = run.core_at(run.done), run.past_at(run.done)
    assert core is not None
    assert identities(world.items) == identities(restate(core, past))


@many(500)
@given(seeds)
@example(50116)  # a retry's first chunk comes before its failure, and an old answer counts one attempt
@example(50889)  # the history still calls an attempt waiting that was sent long ago
@example(52337)  # the same, and the run was cancelled
@example(8041493)  # an attempt that no source named begins again at index 0, and the run is cancelled
@example(9013732)  # the same, joined at index 2
@example(10172152)  # an execution of no known attempt stands between two of one attempt
@example(11095232)  # the same, and a chunk would be sent twice
@example(10075672)  # ... and the history calls a run going that is done
@example(11015193)  # chunks that came after the last failure but one, which nothing explains
@example(11030052)  # the same
def test_a_history_that_lags_far_behind_costs_text_and_each_loss_has_a_gap(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    subscriptions = faulty_subscriptions(rng, run)
    lag = rng.choice([0.15, 0.3, 0.5, 1.0, 2.0, 5.0])
    world = play(run, subscriptions, World(Reconciler(RUN), run.core_at, run.past_at, past_lag=lag))
    legal(world.items)
    assert isinstance(world.items[-1], End)
    assert not unannounced_losses(run, world.items, lags=True)


@many(700)
@given(seeds)
def test_without_a_history_each_step_still_has_one_start_and_one_end(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    subscriptions = faulty_subscriptions(rng, run)
    kind = rng.choice(["off", "away", "lags"])
    reconciler = Reconciler(RUN, has_history=kind != "off")
    world = World(
        reconciler,
        run.core_at,
        run.past_at,
        past_lag=30.0 if kind == "lags" else 0.0,
        past_away=kind == "away",
    )
    play(run, subscriptions, world)
    legal(world.items)
    assert isinstance(world.items[-1], End)
    ends = {(event.step, event.type) for event in ends_of(world)}
    core = run.core_at(run.done)
    assert core is not None
    assert ends == {(event.step, event.type) for event in restate(core, None) if "ed" in event.type} & ends
    assert {step for step, _ in ends if step} == {step.name for step in run.steps}


def ends_of(world: World) -> list[Event]:
    kinds = {"step_completed", "step_failed", "step_cancelled", "step_skipped", *RUN_EVENTS}
    return [item for item in world.items if isinstance(item, Event) and item.type in kinds]


@many(700)
@given(seeds)
def test_an_ideal_subscription_loses_nothing_and_announces_nothing(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    subscription = SubscriptionScript(False, -0.5, run.done + 1.0, run.live())
    world = judged(run, [subscription], World(Reconciler(RUN), run.core_at, run.past_at))
    gaps = [item for item in world.items if not isinstance(item, Event | End) and hasattr(item, "cause")]
    assert not gaps
    recovered = {event.type for event in ends_of(world) if event.recovered}
    assert STEP_COMPLETED not in recovered
