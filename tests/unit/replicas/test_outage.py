"""A run while the log cannot be reached, and when it can be reached again."""

from __future__ import annotations

import asyncio

import pytest

from proxy.replicas.outage import ALONE_AFTER, LOCAL_AFTER, WANTED_EVERY
from proxy.replicas.run_state import Role
from tests.support.fakes import rest
from tests.support.shared_runs import DONE, OVER, STARTED, ReplicaOfRun, chunk, chunks, leader_and_follower

LATER = 9_000_000_000_000  # Unix milliseconds


async def test_a_leader_waits_a_moment_and_then_serves_from_memory() -> None:
    _, leader, _ = await leader_and_follower()
    leader.log.cut()
    leader.bring(chunk(1))
    await leader.clock.turn(LOCAL_AFTER - 0.1)
    assert leader.served.items == [STARTED, chunk(0)]
    await leader.clock.turn(0.2)
    assert leader.run.local
    assert leader.served.items == [STARTED, *chunks(2)]


async def test_a_connection_that_is_back_at_once_changes_nothing() -> None:
    _, leader, follower = await leader_and_follower()
    leader.log.cut()
    leader.bring(chunk(1))
    await leader.clock.turn(LOCAL_AFTER / 2)
    leader.log.mend()
    await rest()
    await leader.clock.turn(LOCAL_AFTER * 2)
    assert not leader.run.local
    assert leader.served.items == follower.served.items == [STARTED, *chunks(2)]


async def test_a_follower_with_clients_leads_for_itself() -> None:
    _, _, follower = await leader_and_follower()
    follower.log.cut()
    await follower.clock.turn(ALONE_AFTER + 0.1)
    assert follower.run.local
    follower.bring(STARTED, *chunks(2))
    await rest()
    assert follower.served.items == [STARTED, *chunks(2)]


async def test_two_followers_that_go_on_alone_never_use_one_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their cursors would be equal, and their frames may differ."""
    monkeypatch.setattr("proxy.replicas.run_state.now_ms", lambda: LATER)
    store, _, follower = await leader_and_follower()
    other = ReplicaOfRun(store, "c")
    await other.run.first_state()
    for replica in (follower, other):
        replica.log.cut()
        await replica.clock.turn(ALONE_AFTER + 0.1)
        replica.bring(STARTED, *chunks(2))
    await rest()
    assert follower.run.local
    assert other.run.local
    fences = [replica.run.progress.fences for replica in (follower, other)]
    assert fences[0].at(1) == fences[1].at(1)
    assert fences[0].at(3) != fences[1].at(3)
    assert fences[0].last.number == LATER, "the next fence of the log is another one"


async def test_a_follower_without_clients_waits_for_one() -> None:
    _, _, follower = await leader_and_follower()
    follower.team.wanted = False
    follower.log.cut()
    await follower.clock.turn(ALONE_AFTER * 3)
    assert follower.run.role is Role.FOLLOWING
    follower.team.wanted = True
    await follower.clock.turn(WANTED_EVERY + 0.1)
    assert follower.run.local


async def test_a_follower_reads_what_it_missed_when_the_log_is_back() -> None:
    _, leader, follower = await leader_and_follower()
    follower.log.cut()
    leader.bring(chunk(1))
    await rest()
    follower.log.mend()
    await rest()
    assert follower.served.items == [STARTED, *chunks(2)]
    await follower.clock.turn(ALONE_AFTER * 2)
    assert follower.run.role is Role.FOLLOWING


@pytest.mark.timeout(20)
async def test_a_leader_continues_the_log_when_it_is_back() -> None:
    _, leader, follower = await leader_and_follower()
    leader.log.cut()
    await leader.clock.turn(LOCAL_AFTER + 0.1)
    leader.bring(chunk(1))
    await rest()
    leader.log.mend()
    while leader.run.local:  # the writer looks at the log after some seconds
        await asyncio.sleep(0.05)
    leader.bring(DONE, OVER)
    await rest()
    assert follower.served.items == leader.served.items == [STARTED, *chunks(2), DONE, OVER]
