"""Leases: sessions that clients share, whatever they are sessions of."""

from __future__ import annotations

import asyncio

import pytest

from proxy.teams.leases import Leases

pytestmark = pytest.mark.timeout(20)


class Thing:
    """A session that counts what is done to it."""

    def __init__(self, size: int = 100, lingers: float = 0.0) -> None:
        self.bytes = size
        self.lingers = lingers
        self.dropped = False

    def shrink(self, to_bytes: int) -> None:
        self.bytes = to_bytes

    def drop(self) -> None:
        assert not self.dropped
        self.dropped = True


@pytest.fixture
def dropped() -> list[Thing]:
    return []


@pytest.fixture
def leases(dropped: list[Thing]) -> Leases[str, Thing]:
    return Leases(lambda thing: thing.lingers, dropped.append)


def add(leases: Leases[str, Thing], key: str, *, lease: bool = True, **more: float) -> Thing:
    thing = Thing(**more)  # type: ignore[arg-type]
    leases.add(key, thing)
    if lease:
        assert leases.lease(key) is thing
    return thing


async def test_a_session_lingers_after_its_last_lease_and_is_closed_then(
    leases: Leases[str, Thing], dropped: list[Thing]
) -> None:
    thing = add(leases, "a")
    assert leases.lease("a") is thing
    leases.release("a", thing)
    await asyncio.sleep(0.01)
    assert not thing.dropped
    leases.release("a", thing)
    assert not thing.dropped
    await asyncio.sleep(0.01)
    assert dropped == [thing]
    assert thing.dropped
    assert leases.lease("a") is None


async def test_a_lease_in_time_keeps_the_session(leases: Leases[str, Thing]) -> None:
    thing = add(leases, "a")
    leases.release("a", thing)
    assert leases.lease("a") is thing
    await asyncio.sleep(0.01)
    assert not thing.dropped


async def test_the_time_begins_anew_when_a_session_without_a_lease_ends(leases: Leases[str, Thing]) -> None:
    thing = add(leases, "a")
    leases.release("a", thing)
    thing.lingers = 60.0
    leases.ended("a", thing)
    await asyncio.sleep(0.01)
    assert not thing.dropped
    leases.clear()


async def test_another_session_with_the_same_key_is_not_meant(leases: Leases[str, Thing]) -> None:
    old = add(leases, "a")
    leases.drop("a", old)
    new = add(leases, "a")
    leases.release("a", old)
    leases.drop("a", old)
    leases.ended("a", old)
    assert (leases.count("a"), new.dropped) == (1, False)


async def test_a_session_apart_serves_those_whom_it_fits_until_they_have_left(
    leases: Leases[str, Thing], dropped: list[Thing]
) -> None:
    apart, unused = add(leases, "a"), add(leases, "b", lease=False)
    leases.set_apart("a", apart)
    leases.set_apart("b", unused)
    assert dropped == [unused], "nobody has its cursors"
    other = add(leases, "a")
    assert leases.lease_apart(lambda thing: thing is other) is None
    assert leases.lease_apart(lambda thing: thing is apart) is apart
    leases.release("a", apart)
    leases.release("a", apart, at_once=True)
    assert dropped == [unused, apart]
    assert list(leases) == [other]


async def test_sessions_without_a_lease_give_way_first_then_the_largest_shrink(
    leases: Leases[str, Thing], dropped: list[Thing]
) -> None:
    large, small = add(leases, "a", size=300), add(leases, "b", size=50)
    first, second = add(leases, "c", lease=False), add(leases, "d", lease=False)
    leases.shrink(460)
    assert dropped == [first]
    leases.shrink(250)
    assert dropped == [first, second]
    assert (large.bytes, small.bytes) == (200, 50)
