"""Generated runs with generated mishaps, by the thousand, through the history: the laws that must hold."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.events import RUN_EVENTS, STEP_COMPLETED, End, Event
from proxy.runs.rebuild import restate
from proxy.runs.reconcile.reconciler import History
from tests.support.playing import LIFECYCLE_WAIT, World, identities, legal
from tests.support.thousands import many
from tests.support.worlds import RUN, Told, Truth, mishaps, misplaced, truth, unsaid, wordless

seeds = st.integers(min_value=0, max_value=2**48)


def play(run: Truth, lines: list[Told], world: World) -> World:
    """Tell all lines' events in the order of time."""
    script: list[tuple[float, int, int, object]] = []
    for n, line in enumerate(lines):
        script.append((line.opened, 0, n, "open"))
        script += [(t, 1, n, event) for t, event in line.events]
        script.append((max([line.ended, *(t for t, _ in line.events)]), 2, n, "end"))
    script.sort(key=lambda entry: entry[:3])
    opened = {}
    world.now = script[0][0]
    world.start()
    for t, _, n, what in script:
        world.until(t)
        if what == "open":
            opened[n] = world.open(ordered=lines[n].ordered)
        elif what == "end":
            world.close(opened[n])
        else:
            world.tell(opened[n], what)  # type: ignore[arg-type]
    world.until(max(world.now, run.done) + LIFECYCLE_WAIT)
    return world


def judged(run: Truth, lines: list[Told], world: World) -> World:
    play(run, lines, world)
    legal(world.items)
    assert isinstance(world.items[-1], End), "the end comes"
    assert world.items[-1].status == run.status.value.lower()
    assert not misplaced(world.items, lags=world.past_lag > 0)
    assert not unsaid(run, world.items)
    assert not wordless(world.items)
    return world


@many(1500)
@given(seeds)
def test_with_a_history_each_lifecycle_event_comes_out_exactly_once(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    lines = mishaps(rng, run)
    history = History(RUN)
    world = World(history, run.core_at, run.past_at, past_lag=rng.choice([0.0, 0.1]))
    judged(run, lines, world)
    core, past = run.core_at(run.done), run.past_at(run.done)
    assert core is not None
    assert identities(world.items) == identities(restate(core, past))


@many(1500)
@given(seeds)
def test_without_a_history_each_step_still_has_one_story_and_one_end(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    lines = mishaps(rng, run)
    kind = rng.choice(["off", "away", "lags"])
    history = History(RUN, has_past=kind != "off")
    world = World(
        history, run.core_at, run.past_at, past_lag=30.0 if kind == "lags" else 0.0, past_away=kind == "away"
    )
    play(run, lines, world)
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


@many(1500)
@given(seeds)
def test_an_ideal_line_loses_nothing_and_announces_nothing(seed: int) -> None:
    rng = Random(seed)
    run = truth(rng)
    line = Told(True, -0.5, run.done, run.live())
    world = judged(run, [line], World(History(RUN), run.core_at, run.past_at))
    gaps = [item for item in world.items if not isinstance(item, Event | End) and hasattr(item, "cause")]
    assert not gaps
    recovered = {event.type for event in ends_of(world) if event.recovered}
    assert STEP_COMPLETED not in recovered
