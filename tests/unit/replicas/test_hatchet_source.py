"""A run as one replica follows it at Hatchet: what is held, what is passed on, what searches brought."""

from __future__ import annotations

from typing import Any, cast

from proxy.core.events import Item
from proxy.log.memory import MemoryStore
from proxy.replicas.hatchet_source import MOST_HELD, HatchetSource
from proxy.replicas.run_state import Role, RunState
from tests.support.fakes import rest
from tests.support.shared_runs import NAME, RUN, STARTED, ReplicaOfRun, chunk, chunks


async def source_of(role: Role = Role.FOLLOWING) -> tuple[ReplicaOfRun, RunState, HatchetSource]:
    replica = ReplicaOfRun(MemoryStore(), "a")
    state = RunState(RUN, NAME, "a", replica.served)
    state.set_metadata({})
    state.role = role
    return replica, state, HatchetSource(state, replica.context)


async def test_what_comes_too_early_is_passed_on_later_in_order() -> None:
    replica, _, source = await source_of()
    source.start()
    replica.bring(STARTED, chunk(0))
    passed: list[Item] = []
    source.feed(passed.extend)
    replica.bring(chunk(1))
    assert passed == [STARTED, *chunks(2)]


async def test_what_the_log_has_told_is_not_held_for_ever() -> None:
    replica, state, source = await source_of()
    source.start()
    for index in range(MOST_HELD):
        state.progress.contents.note(chunk(index))
        replica.bring(chunk(index))
    replica.bring(chunk(MOST_HELD))
    passed: list[Item] = []
    source.feed(passed.extend)
    assert passed == [chunk(MOST_HELD)]


async def test_what_searches_brought_waits_for_the_follower() -> None:
    replica, _, source = await source_of(Role.OPENING)
    source.searched(lambda run: run.deliver(cast(Any, "an event"), "search", at=3.0))
    assert not source.does_without_searches
    source.start()
    source.searched(lambda run: run.deliver(cast(Any, "another"), "search", at=4.0))
    [follower] = replica.team.followers
    assert follower.brought == ["an event from search at 3", "another from search at 4"]


async def test_a_replica_that_only_follows_needs_no_search() -> None:
    replica, _, source = await source_of()
    source.searched(lambda run: run.deliver(cast(Any, "an event"), "search", at=3.0))
    assert source.does_without_searches
    source.start()
    assert replica.team.followers[0].brought == []


async def test_the_workflows_name_is_known_to_a_follower_that_begins_later() -> None:
    replica, _, source = await source_of()
    source.name_workflow("chat")
    source.start()
    assert replica.team.followers[0].workflow == source.workflow == "chat"


async def test_a_leader_does_not_stop_following() -> None:
    replica, state, source = await source_of()
    source.start()
    state.role = Role.LEADING
    source.stop()
    assert source.is_followed
    state.role = Role.OVER
    source.stop()
    await rest()
    assert (source.is_followed, replica.team.followers[0].closed) == (False, True)


async def test_waiting_for_the_first_items_ends_in_time() -> None:
    _, _, source = await source_of()
    source.start()
    await source.brought(0.01)


async def test_a_follower_that_is_ending_is_waited_for() -> None:
    replica, state, source = await source_of()
    source.start()
    source.stop()  # nothing of it has run yet
    state.role = Role.CLOSED
    await source.close()
    assert replica.team.followers[0].closed
