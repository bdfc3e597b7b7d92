"""The short cut for chunks in order gives the same items as the general way: generated runs, both ways."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given

from proxy.core.events import Event
from proxy.runs.reconcile.reconciler import Reconciler
from tests.laws.test_lifecycle import play, seeds
from tests.support.property_settings import many
from tests.support.reconciler_world import World
from tests.support.worlds import RUN, faulty_subscriptions, truth

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work


def run_world(seed: int, *, has_history: bool, short_cut: bool) -> World:
    rng = Random(seed)
    run = truth(rng)
    subscriptions = faulty_subscriptions(rng, run)
    past = run.past_at if has_history else lambda _: None
    world = World(
        Reconciler(RUN, has_history=has_history), run.core_at, past, past_lag=rng.choice([0.0, 0.1])
    )
    world.short_cut = short_cut
    return play(run, subscriptions, world)


@pytest.mark.parametrize("has_history", [True, False])
@many(700)
@given(seeds)
def test_the_same_items_come_out_with_the_short_cut_and_without(has_history: bool, seed: int) -> None:
    fast = run_world(seed, has_history=has_history, short_cut=True)
    slow = run_world(seed, has_history=has_history, short_cut=False)
    assert fast.items == slow.items
    assert fast.reconciler.late == slow.reconciler.late
    assert fast.reconciler.false_ends == slow.reconciler.false_ends


def test_most_chunks_take_it() -> None:
    taken = chunks = 0
    for seed in range(200):
        world = run_world(seed, has_history=True, short_cut=True)
        taken += world.in_order
        chunks += sum(isinstance(item, Event) and not item.lasting for item in world.items)
    assert taken > chunks / 4, "although worlds are full of faults"
