"""A replica that stands by holds what Hatchet brings, and takes over without a hole."""

from __future__ import annotations

from proxy.replicas.run_state import Role
from tests.support.fakes import rest
from tests.support.shared_runs import NAME, STARTED, ReplicaOfRun, chunk, chunks, leader_and_follower


async def test_what_it_holds_is_appended_when_it_takes_over() -> None:
    store, _, other = await leader_and_follower()
    other.run.stand_by()
    assert other.run.stands_by
    other.bring(STARTED, *chunks(4))
    assert other.served.items == [STARTED, chunk(0)], "the leader tells it"
    assert await other.run.take_over("a")
    await rest()
    assert other.served.items == [STARTED, *chunks(4)]
    assert [record.position for record in store.logs[NAME] if not record.is_fence] == [1, 2, 3, 4, 5]
    assert other.counters.take_overs == 1


async def test_only_one_of_two_takes_over() -> None:
    store, _, other = await leader_and_follower()
    third = ReplicaOfRun(store, "c")
    await third.run.first_state()
    assert [await other.run.take_over("a"), await third.run.take_over("a")] == [True, False]
    await rest()
    assert (other.run.role, third.run.role) == (Role.LEADING, Role.FOLLOWING)


async def test_a_take_over_waits_until_hatchet_has_brought_the_run() -> None:
    _, leader, other = await leader_and_follower()
    other.run.take_over_soon()
    await rest()
    assert leader.run.role is Role.LEADING
    other.bring(STARTED, *chunks(2))
    await rest()
    assert other.run.role is Role.LEADING
    assert leader.team.follower_now is None


async def test_who_was_too_late_stands_by_no_longer() -> None:
    store, _, other = await leader_and_follower()
    third = ReplicaOfRun(store, "c")
    await third.run.first_state()
    other.run.take_over_soon()
    await rest()
    await third.run.take_over("a")
    other.bring(STARTED)
    await rest()
    assert other.run.role is Role.FOLLOWING
    assert not other.run.stands_by


async def test_who_was_asked_to_stand_by_does_so_also_when_it_was_too_late() -> None:
    store, _, other = await leader_and_follower()
    third = ReplicaOfRun(store, "c")
    await third.run.first_state()
    other.run.stand_by()
    other.run.take_over_soon()
    await rest()
    await third.run.take_over("a")
    other.bring(STARTED)
    await rest()
    assert other.run.stands_by


async def test_a_log_that_is_gone_is_written_again_by_who_takes_over() -> None:
    store, _, other = await leader_and_follower()
    store.logs.clear()
    assert await other.run.take_over("a")
    other.bring(STARTED, *chunks(2))
    await rest()
    assert other.served.items == [STARTED, *chunks(2)]
    assert [record.position for record in store.logs[NAME] if not record.is_fence] == [1, 2, 3]


async def test_without_the_log_nobody_takes_over() -> None:
    _, _, other = await leader_and_follower()
    other.log.is_up = False
    assert not await other.run.take_over("a")
    assert other.run.role is Role.FOLLOWING
