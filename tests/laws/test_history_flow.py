"""The fast path tells what the general way tells: generated runs and mishaps, played with it and without."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given

from proxy.core.events import Event, LiveEvent
from proxy.runs.reconcile.reconciler import History
from proxy.runs.reconcile.subscription_state import Line
from tests.laws.test_history_laws import play, seeds
from tests.support.playing import World
from tests.support.thousands import many
from tests.support.worlds import RUN, mishaps, truth


class Slow(History):
    """A history without its fast path."""

    def flow(self, line: Line, event: LiveEvent, now: float) -> Event | None:
        return None


class Counting(History):
    """A history that knows how often its fast path was taken."""

    flowed = 0

    def flow(self, line: Line, event: LiveEvent, now: float) -> Event | None:
        told = super().flow(line, event, now)
        self.flowed += told is not None
        return told


def played(kind: type[History], seed: int, *, has_past: bool) -> World:
    rng = Random(seed)
    run = truth(rng)
    lines = mishaps(rng, run)
    history = kind(RUN, has_past=has_past)
    past = run.past_at if has_past else lambda _: None
    return play(run, lines, World(history, run.core_at, past, past_lag=rng.choice([0.0, 0.1])))


@pytest.mark.parametrize("has_past", [True, False])
@many(1500)
@given(seeds)
def test_the_same_items_come_out_with_the_fast_path_and_without(has_past: bool, seed: int) -> None:
    fast = played(History, seed, has_past=has_past)
    slow = played(Slow, seed, has_past=has_past)
    assert fast.items == slow.items
    assert fast.history.late == slow.history.late
    assert fast.history.false_ends == slow.history.false_ends


def test_most_chunks_take_it() -> None:
    flowed = chunks = 0
    for seed in range(200):
        world = played(Counting, seed, has_past=True)
        assert isinstance(world.history, Counting)
        flowed += world.history.flowed
        chunks += sum(isinstance(item, Event) and not item.lasting for item in world.items)
    assert flowed > chunks / 4, "worlds are full of mishaps, and still"
