"""Recordings of the real engine, cut at every point: the same lifecycle events, once, in order, one end."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.core.events import End
from proxy.core.observations import LiveEvent
from proxy.runs.reconcile.rebuild import rebuild
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.subscription_state import SubscriptionState
from tests.support.reconciler_world import LIFECYCLE_WAIT, World, identities, legal
from tests.support.recorded_run import RECORDINGS, Recording, load

FILES = sorted(RECORDINGS.glob("*/*.jsonl"))
SUBSCRIPTIONS = (
    "by_metadata_before_trigger",
    "at_once",
    "after_100ms",
    "after_200ms",
    "after_400ms",
    "late_1500ms",
)


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def first_generation(path: Path) -> Recording:
    """The recording up to its first verified end: what comes after a replay is another generation."""
    recording = load(path)
    done = next(n for n, (_, state) in enumerate(recording.cores) if state.done)
    act = next((t for t, did in recording.acts if did == "replay"), float("inf"))
    recording.cores = recording.cores[: done + 1]
    recording.pasts = [(t, past) for t, past in recording.pasts if t < act]
    recording.sent = [entry for entry in recording.sent if entry[0] < act]
    return recording


def world(recording: Recording, *, has_past: bool = True, past_lag: float = 0.0) -> World:
    reconciler = Reconciler(recording.run_id, has_history=has_past)
    return World(reconciler, recording.core_at, recording.past_at, past_lag=past_lag)


Change = dict[
    int, tuple[tuple[float, LiveEvent], ...]
]  # an entry's number -> what comes instead, how much later
Entry = tuple[float, int, str, str, LiveEvent | None]


def script(recording: Recording, subscriptions: tuple[str, ...], change: Change) -> list[Entry]:
    """The entries of those subscriptions, in order of time, with some of them changed."""
    entries: list[Entry] = []
    for n, (t, subscription, what, event) in enumerate(recording.sent):
        base = subscription.removesuffix("_again")
        if base in subscriptions:
            instead = change.get(n, ((0.0, event),))
            entries += [(t + later, n, base, what, sent) for later, sent in instead]
    return sorted(entries, key=lambda entry: entry[:2])


def play(
    replayed: World,
    recording: Recording,
    subscriptions: tuple[str, ...],
    *,
    joined: float = -0.5,
    broken: float = float("inf"),
    change: Change | None = None,
) -> World:
    """Replay the recording from `joined` on; at `broken` all subscriptions end and are opened again."""
    open_now: dict[str, SubscriptionState] = {}
    replayed.now = joined

    def subscription(base: str) -> SubscriptionState:
        if base not in open_now:
            open_now[base] = replayed.open(ordered=not base.startswith("by_meta"))
        return open_now[base]

    if joined > 0:
        for base in subscriptions:
            subscription(base)
    replayed.start()
    for t, _, base, what, event in script(recording, subscriptions, change or {}):
        if t >= broken:
            replayed.until(broken)
            broken = float("inf")
            ended = [(base, open_now.pop(base)) for base in list(open_now)]
            for _, old in ended:
                replayed.close(old)
            for again, _ in ended:
                subscription(again)
        if t < joined:
            continue
        replayed.until(t)
        if what == "ended" and base in open_now:
            replayed.close(open_now.pop(base))
        elif what == "opened":
            subscription(base)
        elif event is not None:
            replayed.emit(subscription(base), event)
    replayed.until(max(replayed.now, recording.cores[-1][0]) + LIFECYCLE_WAIT)
    return replayed


def check(replayed: World, recording: Recording) -> None:
    legal(replayed.items)
    assert isinstance(replayed.items[-1], End)
    last_core, last_past = recording.cores[-1][1], recording.pasts[-1][1]
    assert identities(replayed.items) == identities(rebuild(last_core, last_past))


@pytest.mark.parametrize("path", FILES, ids=name)
@pytest.mark.parametrize("subscription", [*SUBSCRIPTIONS, "all"])
def test_a_recording_as_it_was(path: Path, subscription: str) -> None:
    recording = first_generation(path)
    subscriptions = SUBSCRIPTIONS if subscription == "all" else (subscription,)
    check(play(world(recording), recording, subscriptions), recording)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_joined_at_every_point(path: Path) -> None:
    recording = first_generation(path)
    for t in sorted({t for t, *_ in recording.sent} | {t for t, _ in recording.cores}):
        if 0 < t <= recording.cores[-1][0] + 0.2:
            for subscriptions in (SUBSCRIPTIONS[:1], SUBSCRIPTIONS[2:3]):
                check(play(world(recording), recording, subscriptions, joined=t + 0.0001), recording)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_broken_at_every_point(path: Path) -> None:
    recording = first_generation(path)
    for t, subscription, *_ in recording.sent:
        if t <= recording.cores[-1][0]:
            base = subscription.removesuffix("_again")
            check(play(world(recording), recording, (base,), broken=t), recording)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_live_event_lost_doubled_late_or_reordered(path: Path) -> None:
    recording = first_generation(path)
    for n, (t, subscription, what, event) in enumerate(recording.sent):
        if what != "event" or event is None or t > recording.cores[-1][0]:
            continue
        base = subscription.removesuffix("_again")
        for change in (
            (),
            ((0.0, event), (0.0, event)),
            ((0.0, event), (0.4, event)),
            ((0.3, event),),
            ((0.05, event),),
        ):
            check(play(world(recording), recording, (base,), change={n: change}), recording)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_with_a_history_that_lags_half_a_minute(path: Path) -> None:
    recording = first_generation(path)
    replayed = play(world(recording, past_lag=30.0), recording, SUBSCRIPTIONS[:1])
    legal(replayed.items)
    assert isinstance(replayed.items[-1], End)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_without_a_history(path: Path) -> None:
    recording = first_generation(path)
    for subscriptions in (SUBSCRIPTIONS[:1], SUBSCRIPTIONS):
        replayed = play(world(recording, has_past=False), recording, subscriptions)
        legal(replayed.items)
        assert isinstance(replayed.items[-1], End)
