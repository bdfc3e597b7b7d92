"""A connection that delivers nothing for seconds, then everything at once, or is cut.

No chunk is published under a wrong attempt or index, and none is lost without a gap.

TCP does that when packets get lost: subscriptions and the answers of the core stop together, and come
together. The history is another server. It goes on, and shows failures, retries and ends whose chunks are
still on their way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.events import End
from proxy.core.observations import CoreState, Kind
from proxy.runs.reconcile.reconciler import Reconciler
from tests.laws.test_lifecycle import play
from tests.support.property_settings import many
from tests.support.reconciler_world import World, legal
from tests.support.worlds import RUN, SubscriptionScript, Truth, misplaced, truth, unannounced_losses

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work


def subscriptions_of(rng: Random, run: Truth, began: float, over: float) -> list[SubscriptionScript]:
    """One subscription or two; what happens from `began` to `over` comes at `over`, in order, or never."""
    subscriptions = []
    cut = rng.random() < 0.4
    run.silent = rng.random() < 0.3
    happens = [one for one in run.live() if not run.silent or one[1].kind is Kind.STREAM]
    for _ in range(rng.choice([1, 1, 2])):
        opened = rng.choice([-0.5, rng.uniform(0.0, run.done), began - 0.01])
        if began <= opened <= over:
            opened = over + 0.001
        subscription = SubscriptionScript(rng.random() < 0.4, opened, max(opened, run.done) + 3.0)
        for at, event in happens:
            if opened <= at < began or (at >= opened and not (cut and opened < began)):
                subscription.events.append((over if began <= at <= over else at, event))
        if cut and opened < began:
            subscription.ended = over
            again = over + rng.choice([0.001, 0.1])
            events = [(at, event) for at, event in happens if at > again]
            subscriptions.append(
                SubscriptionScript(subscription.ordered, again, max(again, run.done) + 3.0, events)
            )
        subscriptions.append(subscription)
    return subscriptions


def scenario(
    seed: int, changed: Callable[[Truth], None] = lambda _: None
) -> tuple[Truth, list[SubscriptionScript], World]:
    """A run, its subscriptions, and a world whose core state stands still with the connection.

    `changed`: changes the run before it is played.
    """
    rng = Random(seed)
    run = truth(rng)
    if rng.random() < 0.5:  # a run that fails and is tried again much later
        step = run.steps[0]
        wait = rng.choice([0.0, 3.0, 8.0])
        for n, one in enumerate(step.tries[1:], start=1):
            step.tries[n] = replace(
                one, began=one.began + wait, chunks=[t + wait for t in one.chunks], ended=one.ended + wait
            )
        if len(step.tries) > 1:
            step.ended += wait
            del run.steps[1:]
            run.done = step.ended + 0.2
    changed(run)
    began = rng.uniform(0.0, run.done)
    over = began + rng.choice([0.5, 2.0, 6.0])
    subscriptions = subscriptions_of(rng, run, began, over)

    def core_at(t: float) -> CoreState | None:
        return run.core_at(min(t, began) if t < over else t)

    return run, subscriptions, World(Reconciler(RUN), core_at, run.past_at)


@pytest.mark.parametrize("lag", [0.0, 0.1])
@many(1000)
@given(st.integers(min_value=0, max_value=2**48))
@example(2399)  # a first attempt's chunks, while its retry waits for a worker
@example(6885)  # a step that was cancelled meanwhile
@example(17872)  # its first chunks come long after the history showed its failure
@example(19244)  # the same, joined late
@example(2037235)  # the history counts two attempts, a subscription brings the end of the third
@example(22316369)  # an attempt's last chunks come when its failure is old, and continue the one before
@example(14021)  # two attempts that the history shows one after the other, late
def test_chunks_held_back_come_under_their_own_attempt_or_not_at_all(lag: float, seed: int) -> None:
    run, subscriptions, world = scenario(seed)
    world.past_lag = lag
    play(run, subscriptions, world)
    legal(world.items)
    assert isinstance(world.items[-1], End)
    last = {step.id: len(step.tries) for step in run.steps}
    for what in misplaced(world.items, lags=False):
        step, attempt = what.partition("/")[0], int(what.split()[-1].partition("/")[0])
        assert (run.silent or lag) and attempt < last[step], what  # void by now, and was guessed
    assert not unannounced_losses(run, world.items)


@many(500)
@given(st.integers(min_value=0, max_value=2**48), st.sampled_from([0.3, 1.0, 5.0]))
@example(51328, 2.0)  # two attempts come at once, and the history counts the first one seconds later
@example(52134, 5.0)  # the same, and a third attempt
@example(52879, 5.0)  # the history calls an attempt waiting whose failure was received
@example(10001954, 5.0)  # an attempt that no source named begins again at index 0, and the run is cancelled
@example(9021854, 5.0)  # the history calls an attempt waiting whose chunks were received
@example(42031490, 5.0)  # an attempt whose failure came on no subscription, while the history is long behind
@example(8016614, 5.0)  # the run failed, and no event of its last attempt was received
def test_with_a_history_far_behind_each_chunk_is_published_or_a_gap(seed: int, lag: float) -> None:
    run, subscriptions, world = scenario(seed)
    world.past_lag = lag
    play(run, subscriptions, world)
    legal(world.items)
    last = {step.id: len(step.tries) for step in run.steps}
    for what in misplaced(world.items, lags=False):
        assert int(what.split()[-1].partition("/")[0]) < last[what.partition("/")[0]], what
    assert not unannounced_losses(run, world.items, lags=True)
