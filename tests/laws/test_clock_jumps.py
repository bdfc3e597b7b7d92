"""Wall clocks that jump: the workers', or theirs and the engine's, forth or back, and right again.

The times of chunks then say nothing, or something false, of the attempt that sent them. No chunk is published
among the last attempt's that another one sent, none is lost without a gap, and the end comes.

What nothing can decide: chunks of an attempt whose failure no subscription brought in time, and whose time is
one of the last attempt's (`timed_as_the_last`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import pytest

from proxy.core.events import End
from proxy.core.observations import Kind
from proxy.runs.reconcile.reconciler import Reconciler
from tests.laws import test_connection_held_back
from tests.laws.test_lifecycle import play
from tests.support.clocks import ClockJump
from tests.support.reconciler_world import World, legal
from tests.support.worlds import (
    RUN,
    SubscriptionScript,
    Truth,
    faulty_subscriptions,
    mark,
    misplaced,
    truth,
    unannounced_losses,
)

pytestmark = pytest.mark.timeout(600)  # thousands of runs, on a machine that may do other work

JUMPS: Final = (-3600.0, -5.0, -0.5, 0.5, 5.0, 3600.0)  # seconds, as in a chaos run
WHOSE: Final = ("workers", "engine and workers")
BESIDE: Final = (
    "nothing",
    "losses",
    "no lifecycle events",
    "a lagging history",
    "a held connection",
    "held, and a lagging history",
)
WORLDS: Final = 150  # always the same ones: of 72,000 new ones none broke the law, which proves no zero
FOUND: Final = (
    92,  # a chunk is timed after the failure that it came before
    2649,  # the same, held back, and the history showed the failure before
    1475,  # a contested chunk has the next index of an attempt that began after it had come
    4613,  # the clock is put back in the last attempt; its chunks fit the first one
    6970,  # the same, live
    53284,  # a chunk whose time is put back fits the first attempt, and would be the last one's next
    52059,  # the same, three chunks
    51389,  # the same, and the last attempt has no other chunk
    22629,  # the same
    51570,  # only the history has the last failure, and the chunks before it are timed after it
    54020,  # the same, and it is the only one
    22166,  # a failure overtakes the last chunk, whose worker's clock is ahead
    55574,  # the same
    56809,  # a contested chunk begins an execution, and came before that of the newest one
    44004593,  # the engine's clock is put back between a failure and the next attempt, by half a second
    46000769,  # a contested chunk is placed when its failure has come, and came before that
    44004057,  # attempts that a connection held back come at once, in turn with their failures
    81948,  # the engine's clock is put back between a failure and the next attempt
)
LAGS: Final = (0.15, 0.3, 1.0, 5.0)  # seconds


def jump_clocks(rng: Random, run: Truth, *, engine: bool) -> None:
    """One jump or two; each within one attempt, from one to another, or at any time."""
    tries = [each for step in run.steps for each in step.tries]
    for _ in range(rng.choice([1, 1, 2])):
        began, over = sorted(rng.uniform(0.0, run.done) for _ in range(2))
        if tries and rng.random() < 0.7:
            first = rng.choice(tries)
            last = rng.choice([first, *(one for one in tries if one.began >= first.began)])
            began = rng.uniform(first.began - 0.1, first.ended)
            over = rng.uniform(max(began, last.began), max(began, last.ended + 0.1))
        run.jumps.append(ClockJump(began, over, rng.choice(JUMPS), engine))


def scenario(seed: int, whose: str, beside: str) -> tuple[Truth, list[SubscriptionScript], World]:
    """A run whose clocks jump, and what else goes wrong."""
    rng = Random(seed)
    engine = whose == "engine and workers"
    lag = rng.choice(LAGS) if "lagging" in beside else rng.choice([0.0, 0.1])
    if "held" in beside:
        made = test_connection_held_back.scenario(seed, lambda run: jump_clocks(rng, run, engine=engine))
        made[2].past_lag = lag
        return made
    run = truth(rng)
    jump_clocks(rng, run, engine=engine)
    if beside == "nothing":
        subscriptions = [SubscriptionScript(False, -0.5, run.done + 1.0, run.live())]
    else:
        subscriptions = faulty_subscriptions(rng, run, silent=beside == "no lifecycle events")
    return run, subscriptions, World(Reconciler(RUN), run.core_at, run.past_at, past_lag=lag)


def timed_as_the_last(run: Truth, subscriptions: Sequence[SubscriptionScript]) -> set[str]:
    """Chunks whose failure came on no subscription, and that are timed after the last attempt had begun.

    The history shows both attempts, the earlier one's chunks may be held back until it does, and the workers'
    clock may be ahead by less than that.
    """
    failed = {
        (event.step_run_id, (event.retry_count or 0) + 1)
        for one in subscriptions
        for _, event in one.events
        if event.kind is Kind.FAILED
    }
    found: set[str] = set()
    for step in run.steps:
        for attempt, one in enumerate(step.tries[:-1], start=1):
            if (step.id, attempt) not in failed:
                found |= {
                    mark(step.id, attempt, index)
                    for index, t in enumerate(one.chunks)
                    if run.by_workers(t) >= run.by_engine(step.tries[-1].began)
                }
    return found


def wrong(seed: int, whose: str, beside: str) -> list[str]:
    """What breaks the law in this world."""
    run, subscriptions, world = scenario(seed, whose, beside)
    play(run, subscriptions, world)
    legal(world.items)
    found = [] if isinstance(world.items[-1], End) else ["no end"]
    last = {step.id: len(step.tries) for step in run.steps}
    excused = timed_as_the_last(run, subscriptions)
    found += [
        what
        for what in misplaced(world.items, lags=False)
        if int(what.split()[-1].partition("/")[0]) >= last[what.partition("/")[0]]
        and what.split()[0] not in excused
    ]
    lost = unannounced_losses(run, world.items, lags="lagging" in beside)
    return found + [f"{chunk} lost" for chunk in lost]


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("whose", WHOSE)
def test_no_chunk_is_sent_under_another_attempt_though_clocks_jump(whose: str, beside: str) -> None:
    found = {seed: broken for seed in (*range(WORLDS), *FOUND) if (broken := wrong(seed, whose, beside))}
    assert not found
