"""The collector in the proxy's hands: the young by themselves, everything only for a reason, nothing lost."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from proxy.observability.counters import Histogram
from proxy.server.gc_policy import BLOCK, LOOK, NEVER, RENEWED, SLACK, YOUNG, GcPolicy, Reason

INCREMENTAL = sys.version_info >= (
    3,
    14,
)  # its walks over what is old are small, and tell themselves as older


class Thing:
    """Something that can be watched, and that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def pauses() -> Histogram:
    return Histogram()


@pytest.fixture
async def cycles(pauses: Histogram) -> Iterator[GcPolicy]:  # type: ignore[misc]
    cycles = GcPolicy(pauses, lambda: 0, short=60.0)
    with cycles.kept():
        yield cycles


@pytest.mark.skipif(INCREMENTAL, reason="this collector walks by increments")
async def test_only_the_young_are_walked_by_themselves(cycles: GcPolicy) -> None:
    walked = set()

    def heard(phase: str, told: dict[str, int]) -> None:
        walked.add(told["generation"])

    gc.callbacks.append(heard)
    survivors: list[list[int]] = [[] for _ in range(200 * YOUNG)]
    gc.callbacks.remove(heard)
    assert walked == {0}
    assert len(survivors) == 200 * YOUNG


async def test_every_walk_is_counted_with_its_seconds(cycles: GcPolicy, pauses: Histogram) -> None:
    before = sum(pauses.buckets)
    gc.collect()
    assert sum(pauses.buckets) == before + 1
    assert pauses.total > 0


async def test_garbage_in_cycles_that_grows_is_a_reason_and_goes(cycles: GcPolicy) -> None:
    survivor = Thing()
    gone = weakref.ref(survivor)
    leak: list[object] = []
    gc.disable()  # as if every one of them had survived its youth
    while cycles.reason(time.monotonic()) is not Reason.GREW:
        leak.extend(Thing() for _ in range(50_000))
    del survivor, leak
    gc.enable()
    cycles.look()
    assert gone() is None
    assert cycles.reason(time.monotonic()) is not Reason.GREW


async def test_what_is_frozen_is_thawed_where_a_configuration_was_replaced(cycles: GcPolicy) -> None:
    old = Thing()
    gone = weakref.ref(old)
    gc.freeze()
    del old
    gc.collect()
    assert gone() is not None
    cycles.reloaded()
    assert cycles.reason(time.monotonic() + 1000 * LOOK) is Reason.RELOADED
    cycles.walk(Reason.RELOADED)
    assert gone() is None
    assert gc.get_freeze_count() > 0
    assert cycles.reason(time.monotonic() + 1000 * LOOK) is None


async def test_what_is_known_to_be_held_is_no_reason() -> None:
    held = 0
    cycles = GcPolicy(Histogram(), lambda: held)
    with cycles.kept():
        kept: list[list[int]] = []
        while cycles.reason(0.0) is not Reason.GREW:
            kept.extend([] for _ in range(50_000))
        held = len(kept) * BLOCK
        assert cycles.reason(0.0) is None
        assert len(kept) > SLACK


async def test_at_rest_what_survived_is_walked_once_there_is_enough_of_it(cycles: GcPolicy) -> None:
    later = time.monotonic() + 1000 * LOOK
    assert cycles.reason(later) is None
    survivors: list[list[int]] = [[] for _ in range((RENEWED + 2) * YOUNG)]
    assert cycles.reason(later) is Reason.RESTS
    cycles.walk(Reason.RESTS)
    assert cycles.reason(later) is None
    assert survivors


async def test_it_is_given_back_as_it_was() -> None:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    with GcPolicy(Histogram(), lambda: 0).kept():
        assert gc.get_threshold()[0] == YOUNG
        assert gc.get_threshold()[1] in {NEVER, 0}  # 3.14 looks at the first alone
    assert gc.get_threshold() == before
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == 0


async def test_a_long_walk_is_never_made_for_the_sake_of_order() -> None:
    cycles = GcPolicy(Histogram(), lambda: 0, short=0.0)
    with cycles.kept():
        cycles.reloaded()
        survivors: list[list[int]] = [[] for _ in range((RENEWED + 2) * YOUNG)]
        assert cycles.reason(time.monotonic() + 1000 * LOOK) is None
        assert survivors
