"""One run, followed at a fake Hatchet: what it asks, what it opens, and what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from proxy.core.events import End, Event, GapCause, Item, StepGap
from proxy.core.instant import instant
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.hatchet.errors import BadChunk, HatchetAway, MessageTooLarge, RunUnknown
from proxy.runs.follower import RunFollower
from proxy.runs.observer import Observer
from proxy.runs.quota import SubscriptionQuota
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.timing import OVERLOADED_FOR, SETTLE
from proxy.runs.subscription import BURST, RATE, SPREAD
from tests.support.fakes import FakeSubscription, FakeUpstream, HandClock, rest

RUN = "11111111-0000-0000-0000-000000000001"
TRACE = "00-abc-def-01"


def started(step: str = RUN) -> LiveEvent:
    return LiveEvent(RUN, Kind.STARTED, step, at=instant("2026-01-01T00:00:00Z"), retry_count=0)


def chunk(index: int, step: str = RUN, text: str | None = None, at: str = "01") -> LiveEvent:
    time = instant(f"2026-01-01T00:00:{at}.{index:03}Z")
    return LiveEvent(RUN, Kind.STREAM, step, text or f"c{index}", at=time, index=index)


def completed(output: str = '{"ok":true}', step: str = RUN, retry: int = 0) -> LiveEvent:
    return LiveEvent(RUN, Kind.COMPLETED, step, output, at=instant("2026-01-01T00:00:02Z"), retry_count=retry)


def failed(step: str = RUN, retry: int = 0) -> LiveEvent:
    text = "ValueError: no\nTraceback"
    return LiveEvent(RUN, Kind.FAILED, step, text, at=instant("2026-01-01T00:00:02Z"), retry_count=retry)


def hangup(kind: Kind = Kind.COMPLETED) -> LiveEvent:
    return LiveEvent(RUN, kind, None, at=instant("2026-01-01T00:00:03Z"), hangup=True)


def core(status: Status = Status.RUNNING, step: Status | None = None, **more: str | None) -> CoreState:
    done = status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    steps = (CoreStep("task", RUN, step or status, **more),)
    return CoreState(RUN, status, done, steps, {"traceparent": TRACE})


def without_trace(state: CoreState) -> CoreState:
    return replace(state, metadata={})


def past(status: Status = Status.RUNNING, retry: int = 0, retries: int | None = 0) -> PastState:
    return PastState(RUN, status, (PastStep("task", RUN, status, retry, retries),))


class Counts(Observer):
    """What happened beside the items."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.open: dict[str, int] = {}
        self.runs_from_state = 0
        self.false_ends = 0
        self.foreign = 0

    def foreign_event(self) -> None:
        self.foreign += 1

    def unforeseen(self, error: Exception) -> None:
        self.errors.append(error)

    def subscribed(self, kind: str, change: int) -> None:
        self.open[kind] = self.open.get(kind, 0) + change

    def state_only(self, change: int) -> None:
        self.runs_from_state += change

    def false_end(self) -> None:
        self.false_ends += 1


@dataclass
class Followed:
    """A run at its Hatchet, and the items that came of it."""

    upstream: FakeUpstream
    clock: HandClock
    items: list[Item] = field(default_factory=list)
    quota: SubscriptionQuota = field(default_factory=SubscriptionQuota)
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.run = RunFollower(
            RUN,
            self.upstream,
            publish=self.publish,
            clock=self.clock,
            quota=self.quota,
            observer=self.counts,
            rng=Random(7),
        )

    def publish(self, items: Sequence[Item]) -> None:
        self.items += items

    def published(self) -> list[str]:
        return [item.type if isinstance(item, Event) else type(item).__name__.lower() for item in self.items]

    def gaps(self) -> list[StepGap]:
        return [item for item in self.items if isinstance(item, StepGap)]

    @property
    def trace(self) -> FakeSubscription:
        """The one subscription by the run's trace."""
        (held,) = self.upstream.by_pair()
        assert held.pair == ("traceparent", TRACE)
        return held

    async def begin(self) -> FakeSubscription:
        """Start; returns the subscription once it is open and the first answers are there."""
        self.run.start()
        await rest()
        return self.trace


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    followed = Followed(FakeUpstream(), HandClock())
    followed.upstream.cores[RUN] = core()
    followed.upstream.pasts[RUN] = past()
    before = asyncio.all_tasks()
    yield followed
    await followed.run.close()
    await rest()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not [task for task in left if "proxy" in repr(task)], "a run leaves no task behind"
    assert not followed.upstream.open
    assert followed.quota.taken == followed.quota.refused == 0
    assert followed.counts.runs_from_state == 0
    assert not any(followed.counts.open.values())


async def test_a_run_is_followed_by_its_trace_to_the_verified_end(followed: Followed) -> None:
    trace = await followed.begin()
    assert followed.upstream.by_id() == []
    trace.emit(started(), chunk(0), chunk(1), completed())
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    await followed.clock.turn(SETTLE)
    trace.emit(hangup())
    await followed.clock.turn(0.1)
    assert followed.published() == [
        "step_started",
        "step_stream",
        "step_stream",
        "step_completed",
        "run_completed",
        "end",
    ]
    assert followed.run.over
    assert not followed.upstream.open, "nothing is subscribed to after the end"
    asked = len(followed.upstream.calls)
    await followed.clock.turn(60)
    assert len(followed.upstream.calls) == asked, "and nothing is asked"


async def test_a_hangup_is_no_end_and_the_subscription_is_opened_again_at_once(followed: Followed) -> None:
    first = await followed.begin()
    first.emit(started(), hangup())
    first.end()
    await rest()
    second = followed.trace
    assert second is not first
    assert not followed.run.over
    second.emit(chunk(0), completed())
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    await followed.clock.turn(SETTLE)
    second.emit(hangup())
    await followed.clock.turn(0.3)
    assert followed.published()[-1] == "end"
    assert followed.gaps() == [], "the second brought everything from chunk 0 to the end"
    assert followed.counts.false_ends == 1


async def test_a_stream_that_ends_without_a_hangup_is_opened_again_within_the_spread(
    followed: Followed,
) -> None:
    first = await followed.begin()
    first.emit(started())
    first.end()
    await followed.clock.turn(0.25)
    assert followed.trace is not first


async def test_a_run_without_a_trace_is_followed_by_its_id(followed: Followed) -> None:
    followed.upstream.cores[RUN] = without_trace(core())
    followed.run.start()
    await rest()
    (by_id,) = followed.upstream.by_id()
    assert (by_id.run_id, followed.upstream.by_pair()) == (RUN, [])


async def test_a_young_run_is_subscribed_to_twice_by_id_and_the_one_that_delivers_stays(
    followed: Followed,
) -> None:
    followed.upstream.cores[RUN] = without_trace(core())
    followed.upstream.pasts[RUN] = None
    followed.run.start()
    await followed.clock.turn(0.11)
    first, second = followed.upstream.by_id()
    second.emit(started())
    await rest()
    assert followed.upstream.by_id() == [second]
    assert first not in followed.upstream.open


async def test_of_two_by_id_that_are_silent_for_two_seconds_the_later_one_stays(followed: Followed) -> None:
    followed.upstream.cores[RUN] = without_trace(core())
    followed.upstream.pasts[RUN] = None
    followed.run.start()
    await followed.clock.turn(0.11)
    _, second = followed.upstream.by_id()
    await followed.clock.turn(2.5)
    assert followed.upstream.by_id() == [second]
    assert followed.upstream.most_open == 2


async def test_a_run_whose_steps_have_ended_is_not_subscribed_to_twice(followed: Followed) -> None:
    followed.upstream.cores[RUN] = without_trace(core())
    other = PastStep("before", "22222222-0000-0000-0000-000000000002", Status.COMPLETED, 0, 0)
    followed.upstream.pasts[RUN] = PastState(RUN, Status.RUNNING, (other, *past().steps))
    followed.run.start()
    await followed.clock.turn(1.0)
    assert len(followed.upstream.opened_ever) == 1


async def test_a_client_in_mid_step_gets_the_next_chunk_at_once_after_one_gap(followed: Followed) -> None:
    trace = await followed.begin()
    trace.emit(chunk(5), chunk(6))
    await followed.clock.turn(0.3)
    assert followed.gaps() == [StepGap(GapCause.JOINED_LATE, "task", 1, 5)]
    assert followed.published().count("step_stream") == 2


async def test_a_chunk_that_is_not_utf8_costs_that_chunk_alone(followed: Followed) -> None:
    trace = await followed.begin()
    trace.emit(started(), chunk(0))
    trace.end(BadChunk("not UTF-8"))
    await followed.clock.turn(0.3)
    followed.trace.emit(chunk(2), chunk(3), completed())
    await followed.clock.turn(0.3)
    assert followed.gaps() == [StepGap(GapCause.UPSTREAM, "task", 1, 1)]
    assert followed.published()[-1] == "step_completed"


async def test_a_message_that_is_too_large_gives_a_gap_with_that_cause(followed: Followed) -> None:
    trace = await followed.begin()
    trace.emit(started())
    trace.end(MessageTooLarge("over 4 MiB"))
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"big":1}')
    followed.upstream.pasts[RUN] = past(Status.COMPLETED)
    await followed.clock.turn(2)
    assert followed.gaps() == [StepGap(GapCause.TOO_LARGE, "task", 1, None)]
    assert followed.published()[-3:] == ["step_completed", "run_completed", "end"]


async def test_a_run_outlives_an_outage_and_asks_ever_more_rarely_meanwhile(followed: Followed) -> None:
    followed.upstream.refuse = HatchetAway("refused")
    followed.upstream.cores[RUN] = HatchetAway("refused")
    known = asyncio.ensure_future(followed.run.first_state())
    await followed.clock.turn(1)
    with pytest.raises(HatchetAway):
        await known
    assert isinstance(followed.run.trouble, HatchetAway)
    await followed.clock.turn(60)
    assert len(followed.upstream.calls) < 40
    followed.upstream.refuse = None
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    followed.upstream.pasts[RUN] = past(Status.COMPLETED)
    await followed.clock.turn(20)
    assert followed.published()[-1] == "end"
    assert followed.run.trouble is None


async def test_after_an_outage_the_subscription_is_opened_as_soon_as_the_core_state_answers(
    followed: Followed,
) -> None:
    """The engine dies; it is back in the middle of the subscription's wait."""
    await followed.begin()
    upstream, clock = followed.upstream, followed.clock
    upstream.refuse = upstream.cores[RUN] = HatchetAway("refused")
    upstream.open[0].end(HatchetAway("gone"))
    await clock.turn(60)
    (own,) = followed.run._subscriptions._own
    own.subscription.backoff.at = clock.now() + 60
    upstream.refuse, upstream.cores[RUN] = None, core()
    while followed.run._reader.trouble is not None:
        await clock.turn(0.1)
    await clock.turn(SPREAD)
    assert len(upstream.open) == 1


async def test_a_run_that_is_not_known_yet_is_asked_for_again(followed: Followed) -> None:
    del followed.upstream.cores[RUN]
    with pytest.raises(RunUnknown):
        await followed.run.first_state()
    followed.upstream.cores[RUN] = core()
    state = asyncio.ensure_future(followed.run.first_state())
    await followed.clock.turn(0.2)
    assert (await state).run_id == RUN


async def test_a_run_without_an_event_for_check_after_is_looked_up(followed: Followed) -> None:
    trace = await followed.begin()
    trace.emit(started(), chunk(0))
    await rest()
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    followed.upstream.pasts[RUN] = past(Status.COMPLETED)
    await followed.clock.turn(17)
    assert followed.published()[-1] == "end"


async def test_a_retry_is_sent_once_the_history_counts_it(followed: Followed) -> None:
    followed.upstream.pasts[RUN] = past(retries=2)
    trace = await followed.begin()
    trace.emit(started(), chunk(0), failed())
    followed.upstream.pasts[RUN] = past(Status.RUNNING, retry=1, retries=2)
    await followed.clock.turn(0.3)
    assert followed.published() == ["step_started", "step_stream", "step_retrying", "reset"]
    followed.trace.emit(chunk(0, text="again", at="09"))
    await followed.clock.turn(0.1)
    event = followed.items[-1]
    assert isinstance(event, Event) and (event.attempt, event.index, event.payload) == (2, 0, "again")


async def test_joining_after_the_end_gives_the_results_and_the_end_without_a_subscription(
    followed: Followed,
) -> None:
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    followed.upstream.pasts[RUN] = past(Status.COMPLETED)
    followed.run.start()
    await rest()
    assert followed.published() == ["step_started", "stepgap", "step_completed", "run_completed", "end"]
    assert isinstance(followed.items[-1], End)
    assert followed.upstream.opened_ever == []


async def test_an_engine_that_hangs_up_after_each_event_is_asked_at_a_bounded_rate(
    followed: Followed,
) -> None:
    trace = await followed.begin()
    opened = 1
    for index in range(200):
        trace.emit(chunk(index), hangup())
        trace.end()
        await rest()
        waited = 0.0
        while not followed.upstream.by_pair():
            await followed.clock.turn(0.1)
            waited += 0.1
            assert waited < 10.0, "it is opened again"
        trace = followed.trace
        opened += 1
        if followed.clock.now() > 1020.0:
            break
    assert opened <= BURST + RATE * (followed.clock.now() - 1000.0) + 1
    assert opened > BURST, "and yet it goes on"


# -- the quota --


async def test_a_run_beyond_the_quota_is_served_from_its_states_alone(followed: Followed) -> None:
    followed.quota.most = 0
    followed.run.start()
    await followed.clock.turn(1)
    assert followed.run.state_only
    assert (followed.quota.refused, followed.counts.runs_from_state) == (1, 1)
    assert followed.published() == ["step_started"]
    followed.upstream.pasts[RUN] = PastState(
        RUN, Status.COMPLETED, (replace(past(Status.COMPLETED).steps[0], output={"ok": True}),)
    )
    await followed.clock.turn(5)
    assert followed.published() == ["step_started", "stepgap", "step_completed"], "before the run is over"
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    await followed.clock.turn(5)
    assert followed.published() == ["step_started", "stepgap", "step_completed", "run_completed", "end"]
    assert followed.gaps() == [StepGap(GapCause.JOINED_LATE, "task", 1, None)]
    assert followed.upstream.opened_ever == []


async def test_a_run_beyond_the_quota_receives_each_retry(followed: Followed) -> None:
    followed.quota.most = 0
    followed.upstream.pasts[RUN] = past(retries=2)
    followed.run.start()
    await followed.clock.turn(1)
    followed.upstream.pasts[RUN] = past(Status.RUNNING, retry=1, retries=2)
    await followed.clock.turn(5)
    assert followed.published() == ["step_started", "stepgap", "step_retrying", "reset"]


async def test_a_place_that_gets_free_is_taken(followed: Followed) -> None:
    followed.quota.most = 1
    assert followed.quota.take(followed.clock.now())
    followed.run.start()
    await followed.clock.turn(1)
    assert followed.run.state_only
    followed.quota.give()
    await followed.clock.turn(1)
    assert not followed.run.state_only
    assert followed.trace
    assert (followed.quota.taken, followed.quota.refused, followed.counts.runs_from_state) == (1, 0, 0)


@pytest.mark.parametrize(("chunks", "ago", "gaps"), [(0, 0, 1), (2, 0, 0), (0, OVERLOADED_FOR + 1, 0)])
async def test_while_places_are_short_silence_proves_nothing(
    followed: Followed, chunks: int, ago: float, gaps: int
) -> None:
    """Seen on a real engine with 48 runs at once: it sent starts and ends, and none of 20 chunks."""
    followed.quota.most = 0
    assert not followed.quota.take(followed.clock.now()), "another run is refused"
    followed.quota.most = 1
    await followed.clock.turn(ago)
    followed.run.start()
    await followed.clock.turn(1)
    followed.trace.emit(started(), *(chunk(index) for index in range(chunks)), completed())
    await followed.clock.turn(1)
    assert len(followed.gaps()) == gaps


async def test_a_run_that_has_ended_gives_its_place_back(followed: Followed) -> None:
    trace = await followed.begin()
    assert followed.quota.taken == 1
    trace.emit(started(), completed())
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    trace.emit(hangup())
    await followed.clock.turn(1)
    assert followed.run.over
    assert followed.quota.taken == 0


# -- what must not happen --


async def test_a_chunk_that_waited_in_the_socket_during_a_stall_is_read_before_the_end_is_judged(
    followed: Followed,
) -> None:
    trace = await followed.begin()
    trace.emit(started(), chunk(0), completed())
    await rest()
    followed.clock.stall(1.0)
    trace.emit(structs.replace(hangup(), hangup=False), chunk(1))
    await followed.clock.turn(0.1)
    assert followed.published()[:4] == ["step_started", "step_stream", "step_stream", "step_completed"]
    assert followed.gaps() == []


async def test_an_event_of_another_run_is_dropped(followed: Followed) -> None:
    trace = await followed.begin()
    trace.emit(started(), structs.replace(chunk(0, text="secret"), run_id="another"))
    await followed.clock.turn(1)
    assert followed.published() == ["step_started"]


async def test_an_unforeseen_mistake_with_an_event_does_not_end_the_run(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = await followed.begin()
    trace.emit(started())
    await followed.clock.turn(0.1)
    received = type(followed.run._reconciler).received

    def broken(*args: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(type(followed.run._reconciler), "received", broken)
    trace.emit(chunk(0))
    monkeypatch.setattr(type(followed.run._reconciler), "received", received)
    assert [str(error) for error in followed.counts.errors] == ["too deep"]
    trace.emit(completed())
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    trace.emit(hangup())
    await followed.clock.turn(2)
    assert followed.published()[-1] == "end"


async def test_nothing_is_published_after_close(followed: Followed) -> None:
    trace = await followed.begin()
    published = list(followed.items)
    await followed.run.close()
    trace.emit(chunk(0), completed())
    await followed.clock.turn(1)
    assert followed.items == published


async def test_a_closed_run_that_is_asked_for_its_state_refuses(followed: Followed) -> None:
    await followed.run.close()
    with pytest.raises(HatchetAway):
        await followed.run.first_state()


# -- exceptions that should not be possible --


@pytest.mark.parametrize("method", ["tick", "received", "core", "history", "next_in_order", "take"])
async def test_an_exception_in_the_reconciler_is_reported_and_the_run_goes_on_to_its_end(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    working = getattr(Reconciler, method)
    failures = 0

    def broken_twice(*args: object, **kwargs: object) -> object:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise RecursionError
        return working(*args, **kwargs)

    if method not in {"core", "history"}:
        await followed.begin()
    monkeypatch.setattr(Reconciler, method, broken_twice)
    followed.run.start()
    for _ in range(10):
        await followed.clock.turn(1.0)
    followed.trace.emit(started(), chunk(0), chunk(1), chunk(2))
    followed.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    followed.upstream.pasts[RUN] = past(Status.COMPLETED)
    followed.trace.emit(completed(), hangup())
    for _ in range(60):
        await followed.clock.turn(1.0)
    assert followed.published()[-2:] == ["run_completed", "end"]
    assert len(followed.counts.errors) == 2


async def test_a_receiver_of_items_that_fails_does_not_stop_the_run(followed: Followed) -> None:
    await followed.begin()
    publish, failures = followed.publish, 0

    def broken_once(items: Sequence[Item]) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise RuntimeError
        publish(items)

    followed.run._publish = broken_once
    followed.trace.emit(started(), chunk(0), chunk(1))
    await followed.clock.turn(1.0)
    followed.trace.emit(chunk(2))
    await followed.clock.turn(1.0)
    assert "step_stream" in followed.published()
    assert len(followed.counts.errors) == 1


async def test_an_exception_at_a_wake_up_is_tried_again(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await followed.begin()
    update = followed.run._subscriptions.update

    def broken_once(*args: Any, **kwargs: Any) -> float | None:
        monkeypatch.setattr(followed.run._subscriptions, "update", update)
        raise RecursionError

    monkeypatch.setattr(followed.run._subscriptions, "update", broken_once)
    while not followed.counts.errors:  # at the wake-up for the check of a silent run
        await followed.clock.turn(1.0)
    asked = followed.upstream.calls.count("core")
    for _ in range(60):
        await followed.clock.turn(1.0)
    assert len(followed.counts.errors) == 1
    assert followed.upstream.calls.count("core") > asked, "the run is looked at again"


async def test_an_event_of_another_run_on_a_subscription_by_run_id_is_dropped_and_counted(
    followed: Followed,
) -> None:
    followed.upstream.cores[RUN] = without_trace(core())
    followed.run.start()
    await followed.clock.turn(1.0)
    (by_id, *_) = [one for one in followed.upstream.open if one.run_id == RUN]
    by_id.emit(
        started(), structs.replace(chunk(0, text="secret"), run_id="22222222-0000-0000-0000-000000000002")
    )
    await followed.clock.turn(5.0)
    assert "secret" not in str(followed.items)
    assert followed.counts.foreign == 1
