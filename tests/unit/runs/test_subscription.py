"""One subscription, opened again for as long as it is wanted: when, how often, and what is reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from proxy.core.events import GapCause
from proxy.core.observations import LiveEvent
from proxy.hatchet.errors import BadChunk, HatchetAway, HatchetError, MessageTooLarge, RunUnknown
from proxy.hatchet.upstream import Deliver
from proxy.runs.subscription import AT_ONCE, BURST, RATE, SLOWEST, SPREAD, STEADY, Backoff, Subscription
from tests.support.fakes import FakeSubscription, HandClock, rest
from tests.unit.runs.test_follower import RUN, Counts, chunk, hangup


class Held:
    """A subscription at a fake upstream, and what its listener received."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.counts = Counts()
        self.calls: list[str] = []
        self.opens: list[float] = []
        self.now: FakeSubscription | None = None
        self.raises: Exception | None = None
        self.silent = False  # the upstream never says that it is open
        self.subscription = Subscription(
            self.open, self, kind="run", clock=self.clock, rng=Random(7), observer=self.counts
        )

    async def open(self, deliver: Deliver, opened: Callable[[], None]) -> None:
        self.opens.append(self.clock.now())
        if self.raises is not None:
            raise self.raises
        self.now = FakeSubscription(RUN, None, deliver)
        if not self.silent:
            opened()
        await self.now.ended

    def opened(self) -> None:
        self.calls.append("opened")

    def received(self, event: LiveEvent) -> None:
        self.calls.append(event.payload or event.kind.value)

    def ended(self, cause: GapCause, trouble: HatchetError | None, *, hung_up: bool) -> None:
        self.calls.append(f"ended {cause.value} {trouble} {'hung up' if hung_up else ''}".strip())

    async def end(self, error: HatchetError | None = None) -> None:
        assert self.now is not None
        self.now.end(error)
        await rest()


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    held = Held()
    yield held
    ending = held.subscription.close()
    if ending is not None:
        await asyncio.gather(ending, return_exceptions=True)
    assert held.counts.open.get("run", 0) == 0


async def test_a_listener_receives_the_opening_each_event_and_the_end(held: Held) -> None:
    held.subscription.start()
    await rest()
    assert held.counts.open == {"run": 1}
    assert held.now is not None
    held.now.emit(chunk(0), chunk(1))
    await held.end()
    assert held.calls[:4] == ["opened", "c0", "c1", "ended upstream None"]
    assert held.subscription.wanted


async def test_an_event_opens_it_where_the_upstream_did_not_say_so(held: Held) -> None:
    held.silent = True
    held.subscription.start()
    await rest()
    assert held.calls == []
    assert held.now is not None
    held.now.emit(chunk(0))
    assert held.calls == ["opened", "c0"]


async def test_a_second_start_changes_nothing(held: Held) -> None:
    held.subscription.start()
    held.subscription.start()
    await rest()
    assert len(held.opens) == 1


async def test_after_a_hangup_it_is_opened_again_at_once(held: Held) -> None:
    held.subscription.start()
    await rest()
    assert held.now is not None
    held.now.emit(hangup())
    await held.end()
    assert held.opens == [1000.0, 1000.0]
    assert held.calls[-2:] == ["ended upstream None hung up", "opened"]


async def test_a_hangup_of_the_one_before_is_not_the_next_ones(held: Held) -> None:
    held.subscription.start()
    await rest()
    assert held.now is not None
    held.now.emit(hangup())
    await held.end()
    held.calls.clear()
    await held.end()
    assert held.calls[0] == "ended upstream None"


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (MessageTooLarge("over 4 MiB"), "ended too_large over 4 MiB"),
        (BadChunk("not UTF-8"), "ended upstream None"),
        (RunUnknown("no such run"), "ended upstream None"),
        (HatchetAway("refused"), "ended upstream refused"),
    ],
)
async def test_an_error_says_why_chunks_may_be_missing_and_what_is_wrong(
    held: Held, error: HatchetError, call: str
) -> None:
    held.subscription.start()
    await rest()
    await held.end(error)
    assert held.calls[1] == call
    await held.clock.turn(SPREAD)
    assert len(held.opens) == 2, "it is opened again all the same"


async def test_an_unforeseen_mistake_is_counted_and_it_is_opened_again(held: Held) -> None:
    held.raises = RecursionError("too deep")
    held.subscription.start()
    await held.clock.turn(2)
    assert len(held.opens) > 1
    assert {str(error) for error in held.counts.errors} == {"too deep"}
    held.raises = None
    await held.clock.turn(2 * SLOWEST)
    assert held.calls[-1] == "opened"


async def test_a_closed_one_delivers_nothing_more_and_is_not_opened_again(held: Held) -> None:
    held.subscription.start()
    await rest()
    calls = list(held.calls)
    ending = held.subscription.close()
    assert not held.subscription.wanted
    assert held.now is not None
    held.now.emit(chunk(0))
    assert ending is not None
    await asyncio.gather(ending, return_exceptions=True)
    await held.clock.turn(10)
    assert held.calls == calls
    assert len(held.opens) == 1
    assert held.subscription.close() is None


async def test_it_is_closed_while_it_waits_to_be_opened_again(held: Held) -> None:
    held.raises = HatchetAway("refused")
    held.subscription.start()
    await held.clock.turn(1)
    opens = len(held.opens)
    ending = held.subscription.close()
    assert ending is not None
    await asyncio.gather(ending, return_exceptions=True)
    await held.clock.turn(60)
    assert len(held.opens) == opens


async def test_hatchet_that_is_away_is_asked_ever_more_rarely(held: Held) -> None:
    held.raises = HatchetAway("refused")
    held.subscription.start()
    await held.clock.turn(60)
    waits = [after - before for before, after in zip(held.opens, held.opens[1:], strict=False)]
    assert waits[0] <= SPREAD
    assert max(waits) <= SLOWEST
    assert min(waits[-3:]) >= SLOWEST / 2


async def test_whatever_it_brings_it_is_opened_at_a_bounded_rate(held: Held) -> None:
    held.subscription.start()
    await rest()
    while held.clock.now() < 1030.0:
        if held.now is not None and not held.now.ended.done():
            held.now.emit(chunk(len(held.opens)), hangup())
            held.subscription.backoff.worked()
            await held.end()
        else:
            await held.clock.turn(0.01)
    assert BURST < len(held.opens) <= BURST + 30 * RATE + 1


# -- when to open again --


def test_the_first_end_costs_nothing_after_a_hangup_and_little_else() -> None:
    for seed in range(50):
        backoff = Backoff(Random(seed))
        backoff.ended(100.0, hung_up=True, lasted=0.0)
        assert backoff.at == 100.0
        backoff = Backoff(Random(seed))
        backoff.ended(100.0, hung_up=False, lasted=0.0)
        assert 100.0 <= backoff.at <= 100.0 + SPREAD


def test_the_next_ends_cost_ever_more_up_to_the_slowest() -> None:
    backoff = Backoff(Random(7))
    waits = []
    for n in range(12):
        now = 1000.0 * n
        backoff.opening(now)
        backoff.ended(now, hung_up=False, lasted=0.0)
        waits.append(backoff.at - now)
    assert waits[0] <= SPREAD
    assert all(SPREAD * 2**n * 0.5 <= waits[n] <= SPREAD * 2**n for n in range(1, 4))
    assert all(SLOWEST / 2 <= wait <= SLOWEST for wait in waits[6:])


def test_so_many_hangups_in_a_row_cost_nothing_and_the_next_one_does() -> None:
    backoff = Backoff(Random(7))
    for _ in range(AT_ONCE):
        backoff.ended(100.0, hung_up=True, lasted=0.0)
        assert backoff.at == 100.0
    backoff.ended(100.0, hung_up=True, lasted=0.0)
    assert backoff.at > 100.0


@pytest.mark.parametrize("how", ["it worked", "it lasted"])
def test_a_subscription_that_worked_is_reopened_at_once(how: str) -> None:
    backoff = Backoff(Random(7))
    for _ in range(6):
        backoff.ended(100.0, hung_up=True, lasted=0.0)
    if how == "it worked":
        backoff.worked()
    backoff.ended(200.0, hung_up=True, lasted=STEADY if how == "it lasted" else 0.0)
    assert backoff.at == 200.0


def test_when_hatchet_is_back_the_wait_is_cut_short_and_never_made_longer() -> None:
    backoff = Backoff(Random(7))
    for _ in range(6):
        backoff.ended(100.0, hung_up=False, lasted=0.0)
    backoff.no_later_than(100.1)
    assert backoff.at == 100.1
    backoff.no_later_than(500.0)
    assert backoff.at == 100.1


async def test_where_hatchet_is_back_the_wait_is_cut_short(held: Held) -> None:
    held.raises = HatchetAway("refused")
    held.subscription.start()
    await held.clock.turn(30.0)
    tries = len(held.opens)
    held.subscription.backoff.at = held.clock.now() + SLOWEST
    held.raises = None
    held.subscription.hatchet_is_back()
    await held.clock.turn(SPREAD)
    assert len(held.opens) == tries + 1
    assert held.calls[-1] == "opened"


async def test_a_subscription_that_is_open_stays_when_hatchet_is_back(held: Held) -> None:
    held.subscription.start()
    await rest()
    held.subscription.hatchet_is_back()
    await held.clock.turn(10.0)
    assert held.opens == [1000.0]
