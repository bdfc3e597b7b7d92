"""MergedSession: when the items of its runs are sent, and what becomes of runs whose state cannot be read."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.observations import CoreState, Status
from proxy.hatchet.errors import HatchetAway, RunUnknown
from proxy.streams.merged import session as merged_session
from proxy.streams.merged.session import JOINS_AT_ONCE
from tests.support.fakes import rest
from tests.support.merged_runs import (
    FIRST,
    SECOND,
    THIRD,
    Listed,
    Make,
    ScriptedSession,
    happened,
    stream,
)
from tests.support.waiting import until

# -- when items are sent --


async def test_what_is_from_the_past_is_sorted_and_what_comes_later_is_sent_at_once(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.past = {FIRST, SECOND}
    membership.settle_time = 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND)
    setup.say(SECOND, happened(SECOND, at=1))
    await rest()
    assert setup.sent == [], "the first run may have something earlier"
    setup.say(FIRST, happened(FIRST, at=2))
    await until(lambda: setup.sent == [SECOND, FIRST])
    setup.say(FIRST, happened(FIRST, at=9))
    assert setup.sent == [SECOND, FIRST, FIRST], "in the same turn of the loop"


async def test_an_old_run_is_waited_for_longer_than_one_that_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_session, "SORTING", 0.0)
    membership = Listed(FIRST, SECOND, THIRD)
    membership.past = {SECOND}
    membership.settle_time = 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND, THIRD)
    setup.say(FIRST, happened(FIRST, at=2))
    await rest()
    assert setup.sent == []
    setup.say(SECOND, happened(SECOND, at=1))
    await until(lambda: setup.sent == [SECOND, FIRST], "the third one, which is silent, is not waited for")


async def test_all_that_speak_soon_are_sorted_also_runs_that_go_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_session, "SORTING", 30.0)
    membership = Listed(FIRST, SECOND)
    membership.settle_time = 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND)
    setup.say(SECOND, happened(SECOND, at=2))
    await rest()
    setup.say(FIRST, happened(FIRST, at=1))
    await until(lambda: setup.sent)
    assert setup.sent == [FIRST, SECOND]


@pytest.mark.parametrize("live", [False, True], ids=["from the past", "live"])
async def test_an_item_that_is_held_holds_back_its_own_run_alone(make: Make, live: bool) -> None:
    membership = Listed(FIRST, SECOND)
    if not live:
        membership.past, membership.settle_time = {FIRST, SECOND}, 30.0
    setup = make(membership)
    held = happened(FIRST, "step_completed", at=1)
    membership.held.append(held)
    if live:
        await setup.begin(FIRST, SECOND)
    else:
        setup.session.start()
        await setup.listens(FIRST, SECOND)
    setup.say(FIRST, held, happened(FIRST, at=3))
    setup.say(SECOND, happened(SECOND, at=2))
    await until(lambda: setup.sent == [SECOND])
    setup.say(FIRST, happened(FIRST, at=4))
    await rest()
    assert setup.sent == [SECOND], "what follows waits too"
    membership.settled.set()
    await until(lambda: setup.sent == [SECOND, FIRST, FIRST, FIRST])
    assert setup.errors == []


async def test_an_error_while_an_item_is_held_is_reported_and_the_item_is_sent(make: Make) -> None:
    membership = Listed(FIRST)
    membership.settling = ZeroDivisionError()
    setup = make(membership)
    await setup.begin(FIRST)
    membership.held.append(happened(FIRST))
    setup.say(FIRST, happened(FIRST))
    membership.settled.set()
    await until(lambda: setup.sent == [FIRST])
    assert setup.errors == [membership.settling]


async def test_a_run_that_is_found_twice_belongs_to_it_once(make: Make) -> None:
    setup = make(Listed(FIRST, FIRST))
    await setup.begin(FIRST)
    member = setup.session.members[FIRST]
    setup.session.add(FIRST, created_at=7)
    assert setup.session.members == {FIRST: member}
    assert len(setup.runs.leased[FIRST].listeners) == 1


async def test_the_name_of_a_runs_workflow_is_known_before_its_items_where_a_rule_shows_it(
    make: Make,
) -> None:
    plain, named = make(Listed(FIRST)), make(Listed(FIRST), stream("workflow"))
    for each in (plain, named):
        await each.begin(FIRST)
    assert plain.runs.leased[FIRST].workflow is None
    assert named.runs.leased[FIRST].workflow == "w"


# -- runs whose state cannot be read --


async def test_a_run_whose_state_cannot_be_read_is_asked_for_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_session, "JOIN_PAUSE", 0.0)
    setup = make(Listed(FIRST))
    setup.runs.troubles[FIRST] = [HatchetAway("not now"), HatchetAway("not yet")]
    await setup.begin(FIRST)
    setup.say(FIRST, happened(FIRST))
    assert setup.sent == [FIRST]


async def test_a_listed_run_that_does_not_exist_holds_nothing_up(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.past, membership.settle_time = {FIRST, SECOND}, 30.0
    setup = make(membership)
    setup.runs.troubles[FIRST] = [RunUnknown("no such run")] * 1000
    setup.session.start()
    await setup.listens(SECOND)
    setup.say(SECOND, happened(SECOND))
    await until(lambda: setup.sent == [SECOND])
    gone = setup.session.members[FIRST]
    assert gone.over
    assert gone.ended.is_set()
    assert setup.runs.released == [FIRST], "it is not followed"
    assert [run.run_id for run in setup.feed.attached] == [SECOND]


async def test_few_states_are_read_at_the_same_time(make: Make) -> None:
    many = [f"{FIRST[:-4]}{number:04d}" for number in range(3 * JOINS_AT_ONCE)]
    setup = make(Listed(*many))
    reading, gate = 0, asyncio.Event()

    async def first_state(self: ScriptedSession, patience: float) -> CoreState:
        nonlocal reading
        reading += 1
        await gate.wait()
        reading -= 1
        return CoreState(self.run_id, Status.RUNNING, False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedSession, "first_state", first_state)
        setup.session.start()
        await rest()
        assert reading == JOINS_AT_ONCE
        gate.set()
        await setup.listens(*many)
