"""A leader: what it does when another replica takes the lead, and when it gives the lead away."""

from __future__ import annotations

import asyncio

from proxy.log.memory import MemoryStore
from proxy.replicas.run_state import Role
from tests.support.fakes import rest
from tests.support.shared_runs import (
    DONE,
    NAME,
    OVER,
    STARTED,
    ReplicaOfRun,
    chunk,
    chunks,
    leader_and_follower,
)


async def test_a_leader_that_is_taken_over_follows_and_leaves_hatchet() -> None:
    _, leader, other = await leader_and_follower()
    assert await other.run.take_over("a")
    await rest()
    assert leader.run.role is Role.FOLLOWING
    assert leader.team.follower_now is None
    assert leader.counters.leads_lost == 1
    other.bring(STARTED, *chunks(3))
    await rest()
    assert leader.served.items == other.served.items == [STARTED, *chunks(3)]


async def test_what_a_former_leader_could_not_append_is_served_by_nobody() -> None:
    _, leader, other = await leader_and_follower()
    leader.log.is_up = False  # it does not hear of it
    assert await other.run.take_over("a")
    await rest()
    leader.log.is_up = True
    assert leader.team.follower_now is not None
    leader.bring(chunk(1))
    await rest()
    assert leader.run.role is Role.FOLLOWING
    assert leader.served.items == [STARTED, chunk(0)]


async def test_who_served_what_the_log_has_otherwise_stays_apart_until_the_end() -> None:
    _, leader, other = await leader_and_follower()
    leader.log.cut()
    await leader.clock.turn(1.5)
    leader.bring(chunk(1))
    await rest()
    assert leader.run.local
    assert await other.run.take_over("a")
    other.bring(STARTED, *chunks(3))
    await rest()
    leader.log.mend()
    async with asyncio.timeout(10):  # it looks at the log after two seconds
        while await leader.log.followers(NAME) > 1:
            await asyncio.sleep(0.05)
    leader.bring(chunk(2), DONE, OVER)
    await rest()
    assert leader.served.items == [STARTED, *chunks(3), DONE, OVER]
    assert leader.team.discarded == 0
    assert leader.team.set_apart_times == 1, "clients without its cursors get another session"


async def test_a_lead_is_given_away_when_another_replica_has_it() -> None:
    _, leader, other = await leader_and_follower()
    giving = asyncio.create_task(leader.run.give_away(5.0))
    await rest()
    assert not giving.done()
    await other.run.take_over("a")
    assert await giving


async def test_giving_away_ends_in_time_where_nobody_takes_the_lead() -> None:
    _, leader, _ = await leader_and_follower()
    assert not await leader.run.give_away(0.01)


async def test_a_leader_that_closes_asks_those_who_follow() -> None:
    _, leader, other = await leader_and_follower()

    class TakeOverListener:
        def announced(self, replica: str, words: list[str]) -> None:
            assert (replica, list(words)) == ("a", ["resign", NAME])
            other.run.take_over_soon()
            other.bring(STARTED, chunk(0))

    other.log.announcements = TakeOverListener()  # type: ignore[assignment]
    other.team.wanted = True
    other.run.stand_by()
    await leader.run.close()
    assert other.run.role is Role.LEADING
    assert leader.run.role is Role.CLOSED


async def test_a_leader_that_nobody_follows_says_that_nobody_leads() -> None:
    store = MemoryStore()
    leader = ReplicaOfRun(store, "a")
    await leader.run.first_state()
    leader.bring(STARTED)
    await rest()
    await leader.run.close()
    assert (store.logs[NAME][-1].is_fence, store.logs[NAME][-1].replica) == (True, "")
    assert leader.team.follower_now is None
    later = ReplicaOfRun(store, "b")
    await later.run.first_state()
    assert later.run.role is Role.LEADING


async def test_a_finished_log_is_kept_for_a_while() -> None:
    store, leader, _ = await leader_and_follower()
    leader.bring(DONE, OVER)
    await rest()
    assert store.sealed == {NAME: 60.0}
    assert leader.run.role is Role.OVER
    assert leader.team.follower_now is None
