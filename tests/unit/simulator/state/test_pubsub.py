"""The bus: one buffer and one flush for each kind of event, and what a flush costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from proxy.simulator import messages
from proxy.simulator.messages import Message
from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.scheduler import ManualScheduler
from proxy.simulator.state.pubsub import FLUSH_AT_ONCE, FLUSH_EVERY, SUBSCRIPTION_COST, Bus
from proxy.simulator.world import World

SEEDS = range(20)
PAIR = {"stream": "on"}


class Received:
    """A subscriber that keeps each message with its time."""

    def __init__(self, scheduler: ManualScheduler) -> None:
        self._scheduler = scheduler
        self.messages: list[tuple[float, Message]] = []
        self.batches: list[int] = []

    def receive(self, messages: Sequence[Message]) -> None:
        self.batches.append(len(messages))
        self.messages += [(self._scheduler.now(), message) for message in messages]


class Setup:
    """A bus on manual time, with one subscriber by a metadata pair."""

    def __init__(self, seed: int = 1, **quirks: bool) -> None:
        self.scheduler = ManualScheduler()
        self.world = World(self.scheduler, RandomSource(seed), Quirks().switched(**quirks))
        self.bus = Bus(self.world)
        self.tap = self.subscriber()
        self.bus.subscribe_to_pair("stream", "on", self.tap)

    def subscriber(self) -> Received:
        return Received(self.scheduler)

    def chunk(self, at: float, index: int, size: int = 1) -> None:
        message = Message("run", messages.STREAM, "step", b"x" * size, at, None, index)
        self.scheduler.after(at, self.bus.publish, message, PAIR)

    def end(self, at: float) -> None:
        self.scheduler.after(at, self.bus.publish, Message("run", messages.COMPLETED, "step"), PAIR)

    def stream(self, chunks: int, every: float) -> float:
        """Publish so many chunks; when the last one is."""
        for index in range(chunks):
            self.chunk(index * every, index)
        return (chunks - 1) * every


@pytest.mark.parametrize("seed", SEEDS)
def test_a_chunk_waits_for_a_flush_at_most_two_ticks(seed: int) -> None:
    setup = Setup(seed)
    setup.stream(40, 0.03)
    setup.scheduler.advance(3)
    lags = [at - message.at for at, message in setup.tap.messages if message.at is not None]
    assert len(lags) == 40
    assert max(lags) <= 2 * FLUSH_EVERY + SUBSCRIPTION_COST[1] + 1e-9
    assert min(lags) > 0


def test_an_end_overtakes_the_last_chunk_by_at_most_one_tick() -> None:
    overtaken = []
    for seed in range(60):
        setup = Setup(seed)
        setup.end(setup.stream(20, 0.03) + 0.002)
        setup.scheduler.advance(3)
        ended = next(at for at, message in setup.tap.messages if not message.is_chunk)
        overtaken.append(setup.tap.messages[-1][0] - ended)
    assert 0 < max(overtaken) <= FLUSH_EVERY
    assert min(overtaken) == 0


def test_without_buffers_messages_come_at_once_and_in_order() -> None:
    setup = Setup(flush_buffers=False)
    setup.end(setup.stream(20, 0.03))
    setup.scheduler.advance(3)
    assert [message.at for _, message in setup.tap.messages if message.is_chunk] == [
        at for at, message in setup.tap.messages if message.is_chunk
    ]
    assert setup.tap.messages[-1][1].kind == messages.COMPLETED


def test_one_flush_takes_ten_messages_and_a_burst_waits_for_the_next_ticks() -> None:
    setup = Setup()
    setup.stream(35, 0.0)
    setup.scheduler.advance(3)
    assert setup.tap.batches == [FLUSH_AT_ONCE] * 3 + [5]
    times = sorted({at for at, _ in setup.tap.messages})
    assert all(
        later - earlier <= 2 * FLUSH_EVERY + SUBSCRIPTION_COST[1] for earlier, later in pairwise(times)
    )


def test_a_full_buffer_is_flushed_before_its_tick() -> None:
    setup = Setup()
    setup.stream(FLUSH_AT_ONCE + 1, 0.0)
    setup.scheduler.advance(FLUSH_EVERY / 2)
    assert len(setup.tap.messages) == FLUSH_AT_ONCE


def lost_time(subscriptions: int, *, cost: bool = True) -> float:
    """How late the last of 24 runs' chunks is, with so many subscriptions by run id beside the tap."""
    setup = Setup(subscription_cost=cost)
    for number in range(subscriptions):
        setup.bus.subscribe_to_run(f"other-{number}", setup.subscriber())
    setup.stream(800, 0.03 / 24)
    setup.scheduler.advance(60)
    return max(at - message.at for at, message in setup.tap.messages if message.at is not None)


def test_chunks_lag_with_the_number_of_subscriptions_and_not_with_a_tap_alone() -> None:
    assert lost_time(0) < 0.06
    assert lost_time(23) > 1.0
    assert lost_time(47) > 2 * lost_time(23)
    assert lost_time(47, cost=False) < 0.06


def test_a_large_message_is_overtaken_by_those_after_it() -> None:
    setup = Setup()
    setup.chunk(0.0, 0, size=5_000)
    setup.chunk(0.1, 1)
    setup.scheduler.advance(3)
    assert [message.index for _, message in setup.tap.messages] == [1, 0]


def test_a_muted_bus_drops_what_is_published_and_what_is_buffered() -> None:
    setup = Setup()
    setup.chunk(0.0, 0)
    setup.scheduler.advance(0.001)
    setup.bus.muted = True
    setup.chunk(0.01, 1)
    setup.scheduler.advance(1)
    assert setup.tap.messages == []


def test_the_same_seed_gives_the_same_times() -> None:
    def times(seed: int) -> list[float]:
        setup = Setup(seed)
        setup.stream(20, 0.03)
        setup.scheduler.advance(3)
        return [at for at, _ in setup.tap.messages]

    assert times(7) == times(7)
    assert times(7) != times(8)


def test_a_lag_of_chunks_leaves_lifecycle_events_alone() -> None:
    setup = Setup()
    setup.world.chunk_lag = 5.0
    setup.chunk(0.0, 0)
    setup.end(0.01)
    setup.scheduler.advance(6)
    (ended, end), (came, chunk) = setup.tap.messages
    assert (end.kind, chunk.kind) == (messages.COMPLETED, messages.STREAM)
    assert came - ended > 4.9
