"""A history that lags by 0.3 to 1 s, where other runs of the team have measured that already.

Its answers count only for what happened before that lag. So no chunk is published among the last attempt's
that another one sent, and none is lost without a gap; where a connection was held back, no chunk at all is
published under another attempt.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.events import End
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.states import HistoryLag
from proxy.runs.reconcile.timing import LAG_MARGIN
from tests.laws import test_connection_held_back
from tests.laws.test_lifecycle import play
from tests.support.property_settings import many
from tests.support.reconciler_world import World, legal
from tests.support.worlds import (
    RUN,
    SubscriptionScript,
    Truth,
    faulty_subscriptions,
    misplaced,
    truth,
    unannounced_losses,
    undecidable,
)

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work

LAGS = (0.3, 0.5, 0.7, 1.0)  # seconds; an engine at a load of 6 has 0.4 to 0.7
ANSWER = 0.02  # seconds, the time on the wire

seeds = st.integers(min_value=0, max_value=2**48)


def measured(lag: float) -> HistoryLag:
    """What the team's other runs have measured."""
    found = HistoryLag()
    found.lacked((lag + ANSWER) / LAG_MARGIN, 0.0)
    return found


def misplaced_in(run: Truth, subscriptions: list[SubscriptionScript], world: World) -> list[str]:
    """The chunks that were published under another attempt, once the run was played."""
    play(run, subscriptions, world)
    legal(world.items)
    assert isinstance(world.items[-1], End)
    assert not unannounced_losses(run, world.items, lags=True)
    excused = undecidable(run, subscriptions, world.items)
    return [what for what in misplaced(world.items, lags=False) if what not in excused]


@many(700)
@given(seeds)
def test_no_chunk_is_published_among_the_last_attempts_that_another_one_sent(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    subscriptions = faulty_subscriptions(rng, run)
    lag = rng.choice(LAGS)
    world = World(Reconciler(RUN, history_lag=measured(lag)), run.core_at, run.past_at, past_lag=lag)
    last = {step.id: len(step.tries) for step in run.steps}
    for what in misplaced_in(run, subscriptions, world):
        assert int(what.split()[-1].partition("/")[0]) < last[what.partition("/")[0]], what


@many(700)
@given(seeds, st.sampled_from(LAGS))
def test_what_a_connection_held_back_is_published_under_its_own_attempt(seed: int, lag: float) -> None:
    run, subscriptions, made = test_connection_held_back.scenario(seed)
    world = World(Reconciler(RUN, history_lag=measured(lag)), made.core_at, made.past_at, past_lag=lag)
    assert not misplaced_in(run, subscriptions, world)
