"""Bus: the messages of one tenant, on their way to its subscriptions.

Time line of one message, as in the engine (internal/msgqueue: shared_tenant_reader, mq_sub_buffer):

    published ── delay of its kind ──> buffered ── next flush of its kind ──> subscription 1, 2, 3 ...
                                       0 to 40 ms after it came               one after the other

Each kind of event has a buffer and a flush of its own. Nothing orders two kinds, so the end of a step
overtakes chunks that still wait in their buffer, and the end of a run may close a subscription before they
come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from proxy.simulator.messages import Message
from proxy.simulator.scheduler import Cancellable
from proxy.simulator.world import World

LARGE: Final = 4170  # bytes of a payload: encoded twice in base64 it passes the 8,000 bytes of pg_notify
LARGE_DELAY: Final = (0.5, 1.0)  # such a message lies in a table that is polled each second
FLUSH_EVERY: Final = 0.020  # the engine's tick
FLUSH_AT_ONCE: Final = 10  # messages: the engine's buffer; the next one makes it flush
FLUSH_MISSED: Final = 0.5  # how often a tick finds the flush before it not over yet, and passes
SUBSCRIPTION_COST: Final = (0.0015, 0.0025)  # seconds of a flush for each subscription of the tenant

Span = tuple[float, float]
Published = tuple[Message, Mapping[str, Any]]  # and its run's metadata


class Subscriber(Protocol):
    """One subscription, as the bus sees it."""

    def receive(self, messages: Sequence[Message]) -> None:
        """The messages of one flush that match the subscription, in the order in which they came."""


class KindBuffer:
    """The messages of one kind that wait for their flush.

    `deliver` passes up to FLUSH_AT_ONCE messages on and returns for how many seconds the flush is busy.
    """

    def __init__(self, world: World, deliver: Callable[[Sequence[Published]], float]) -> None:
        self._world, self._deliver = world, deliver
        self._waiting: deque[Published] = deque()
        self._ticker: Cancellable | None = None  # None: parked, because the buffer was empty
        self._early: Cancellable | None = None  # a flush out of turn, for a full buffer
        self._busy_until = 0.0
        self._flushed_last_tick = False

    def add(self, published: Published) -> None:
        """A message has arrived."""
        self._waiting.append(published)
        if self._ticker is None:
            self._flushed_last_tick = False
            self._ticker = self._world.scheduler.after(FLUSH_EVERY, self._tick)
        if len(self._waiting) > FLUSH_AT_ONCE and self._early is None:
            wait = self._busy_until - self._world.scheduler.now()
            if wait > 0:
                self._early = self._world.scheduler.after(wait, self._flush_early)
            else:
                self._flush()

    def _tick(self) -> None:
        if not self._waiting:
            self._ticker = None
            return
        self._ticker = self._world.scheduler.after(FLUSH_EVERY, self._tick)
        busy = self._world.scheduler.now() < self._busy_until
        if busy or (self._flushed_last_tick and self._world.random.chance(FLUSH_MISSED)):
            self._flushed_last_tick = False
        else:
            self._flushed_last_tick = True
            self._flush()

    def _flush_early(self) -> None:
        self._early = None
        if self._waiting:
            self._flush()

    def _flush(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(FLUSH_AT_ONCE, len(self._waiting)))]
        self._busy_until = self._world.scheduler.now() + self._deliver(batch)


class Bus:
    """The subscribers of one tenant, and which events each receives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._subscribers: dict[Subscriber, None] = {}  # all, in the order in which they came
        self._by_run: dict[str, list[Subscriber]] = {}
        self._by_pair: dict[tuple[str, str], list[Subscriber]] = {}
        self._buffers: dict[str, KindBuffer] = {}
        self._large_at: dict[str, float] = {}
        self.muted = False

    def subscribe_to_run(self, run_id: str, subscriber: Subscriber) -> None:
        self._subscribers[subscriber] = None
        self._by_run.setdefault(run_id, []).append(subscriber)

    def subscribe_to_pair(self, key: str, value: str, subscriber: Subscriber) -> None:
        self._subscribers[subscriber] = None
        self._by_pair.setdefault((key, value), []).append(subscriber)

    def unsubscribe_from_run(self, run_id: str, subscriber: Subscriber) -> None:
        self._subscribers.pop(subscriber, None)
        _remove(self._by_run, run_id, subscriber)

    def unsubscribe_from_pair(self, key: str, value: str, subscriber: Subscriber) -> None:
        self._subscribers.pop(subscriber, None)
        _remove(self._by_pair, (key, value), subscriber)

    def publish(self, message: Message, metadata: Mapping[str, Any], delay: Span | None = None) -> None:
        """Publish a message: at once or `delay` seconds later, and a large one later still."""
        scheduler, random = self._world.scheduler, self._world.random
        if self._world.quirks.late_large_payloads and len(message.payload) > LARGE:
            at = max(scheduler.now() + random.between(LARGE_DELAY), self._large_at.get(message.run_id, 0.0))
            self._large_at[message.run_id] = at
            scheduler.after(at - scheduler.now(), self._arrive, message, metadata)
            return
        wait = 0.0 if delay is None else random.between(delay)
        wait += self._world.chunk_lag if message.is_chunk else 0.0
        if wait:
            scheduler.after(wait, self._arrive, message, metadata)
        else:
            self._arrive(message, metadata)

    def publish_recorded(self, message: Message, metadata: Mapping[str, Any]) -> None:
        """Publish a message of a recording: the time at which it was recorded includes every delay."""
        self._flush([(message, metadata)], 0.0)

    def _arrive(self, message: Message, metadata: Mapping[str, Any]) -> None:
        if not self._world.quirks.flush_buffers:
            self._flush([(message, metadata)], 0.0)
            return
        if message.buffer not in self._buffers:
            self._buffers[message.buffer] = KindBuffer(self._world, self._flush_in_turn)
        self._buffers[message.buffer].add((message, metadata))

    def _flush_in_turn(self, batch: Sequence[Published]) -> float:
        if not self._world.quirks.subscription_cost:
            return self._flush(batch, 0.0)
        return self._flush(batch, self._world.random.between(SUBSCRIPTION_COST))

    def _flush(self, batch: Sequence[Published], cost: float) -> float:
        """Pass a batch to each subscription, `cost` seconds after the one before; the seconds for all."""
        if self.muted:
            return 0.0
        matching = self._matching(batch)
        if not cost:
            for subscriber, messages in matching.items():
                subscriber.receive(messages)
            return 0.0
        for number, subscriber in enumerate(self._subscribers, 1):
            if subscriber in matching:
                self._world.scheduler.after(number * cost, self._receive, subscriber, matching[subscriber])
        return len(self._subscribers) * cost

    def _receive(self, subscriber: Subscriber, messages: Sequence[Message]) -> None:
        if not self.muted:
            subscriber.receive(messages)

    def _matching(self, batch: Sequence[Published]) -> dict[Subscriber, list[Message]]:
        found: dict[Subscriber, list[Message]] = {}
        for message, metadata in batch:
            for subscriber in self._interested(message, metadata):
                found.setdefault(subscriber, []).append(message)
        return found

    def _interested(self, message: Message, metadata: Mapping[str, Any]) -> Iterable[Subscriber]:
        yield from self._by_run.get(message.run_id, ())
        for (key, value), subscribers in self._by_pair.items():
            if metadata.get(key) == value:
                yield from subscribers


def _remove(subscribers: dict[Any, list[Subscriber]], key: Any, subscriber: Subscriber) -> None:
    mine = subscribers.get(key)
    if mine and subscriber in mine:
        mine.remove(subscriber)
        if not mine:
            del subscribers[key]
