"""The collector's rules: young objects by themselves, everything only if memory grew without a reason."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from proxy.observability.counters import Histogram
from proxy.server import gc_policy
from proxy.server.gc_policy import (
    BYTES_PER_BLOCK,
    NEVER,
    SLACK_BLOCKS,
    SLACK_BYTES,
    SPARE,
    YOUNG,
    GcPolicy,
)
from tests.support.waiting import until

INCREMENTAL = sys.version_info >= (3, 14)  # its collections of old objects are small, and are called older


class Thing:
    """Something that can be watched, and that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def pauses() -> Histogram:
    return Histogram()


@pytest.fixture
async def policy(pauses: Histogram) -> Iterator[GcPolicy]:  # type: ignore[misc]
    policy = GcPolicy(pauses, lambda: 0)
    with policy.applied():
        yield policy


@pytest.mark.skipif(INCREMENTAL, reason="this collector works by increments")
async def test_only_young_objects_are_collected_by_themselves(policy: GcPolicy) -> None:
    collected = set()

    def note(phase: str, info: dict[str, int]) -> None:
        collected.add(info["generation"])

    gc.callbacks.append(note)
    survivors: list[list[int]] = [[] for _ in range(200 * YOUNG)]
    gc.callbacks.remove(note)
    assert collected == {0}
    assert len(survivors) == 200 * YOUNG


async def test_every_collection_is_measured(policy: GcPolicy, pauses: Histogram) -> None:
    before = sum(pauses.buckets)
    gc.collect()
    assert sum(pauses.buckets) == before + 1
    assert pauses.total > 0


async def test_garbage_in_cycles_that_grows_is_collected(policy: GcPolicy) -> None:
    survivor = Thing()
    gone = weakref.ref(survivor)
    leak: list[object] = []
    gc.disable()  # as if each of them had survived its youth
    while not policy.has_grown():
        leak.extend(Thing() for _ in range(50_000))
    del survivor, leak
    gc.enable()
    policy.check()
    assert gone() is None
    assert not policy.has_grown()


async def test_what_is_frozen_is_collected_too_and_what_is_left_is_frozen_again(policy: GcPolicy) -> None:
    old = Thing()
    gone = weakref.ref(old)
    gc.freeze()
    del old
    gc.collect()
    assert gone() is not None
    policy.collect()
    assert gone() is None
    assert gc.get_freeze_count() > 0


async def test_what_is_known_to_be_held_explains_growth() -> None:
    held = 0
    policy = GcPolicy(Histogram(), lambda: held)
    with policy.applied():
        kept: list[list[int]] = []
        while not policy.has_grown():
            kept.extend([] for _ in range(50_000))
        held = len(kept) * BYTES_PER_BLOCK
        assert not policy.has_grown()
        assert len(kept) > SLACK_BLOCKS


async def test_a_few_large_blocks_are_growth_too(policy: GcPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1_000_000_000
    monkeypatch.setattr(gc_policy, "peak", lambda: size)
    policy.collect()
    size = int(size * 1.5) + SLACK_BYTES
    assert not policy.has_grown()
    size += 1
    assert policy.has_grown()


async def test_bytes_that_are_held_since_the_last_collection_explain_growth_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = held = 1_000_000_000
    monkeypatch.setattr(gc_policy, "peak", lambda: size)
    policy = GcPolicy(Histogram(), lambda: held)
    with policy.applied():
        size = int(size * 1.5) + SLACK_BYTES + 1
        assert policy.has_grown(), "what was held before explains nothing"
        held += 1_000_000
        size += SPARE * 1_000_000 - 1
        assert not policy.has_grown()
        size += 1
        assert policy.has_grown()


async def test_memory_is_looked_at_again_and_again_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc_policy, "CHECK", 0.001)
    checks, collections = 0, 0

    class Growing(GcPolicy):
        """Memory that has grown at every second look."""

        def has_grown(self) -> bool:
            nonlocal checks
            checks += 1
            return checks % 2 == 0

        def collect(self) -> None:
            nonlocal collections
            collections += 1

    policy = Growing(Histogram(), lambda: 0)
    with policy.applied():
        assert collections == 1
        await until(lambda: checks >= 5)
        assert collections == 1 + checks // 2
    assert policy._timer is not None
    assert policy._timer.cancelled()


async def test_the_collector_is_given_back_as_it_was() -> None:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    with GcPolicy(Histogram(), lambda: 0).applied():
        assert gc.get_threshold()[0] == YOUNG
        assert gc.get_threshold()[1] in {NEVER, 0}  # 3.14 has the first one only
    assert gc.get_threshold() == before
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == 0
