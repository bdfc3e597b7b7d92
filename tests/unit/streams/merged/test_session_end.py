"""MergedSession: what keeps it from beginning, who may see it, what ends it, and what is given back then."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from proxy.core.events import End, GapCause, StepGap
from proxy.core.observations import CoreState, Status
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.streams.merged.membership import TooManyRuns
from proxy.streams.merged.session import MOST_RUNS
from tests.support.fakes import rest
from tests.support.merged_runs import (
    FIRST,
    SECOND,
    THIRD,
    Listed,
    Make,
    happened,
)
from tests.support.waiting import until


class Client:
    """A subscriber as far as a refusal needs it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write_control(self, frame: bytes) -> None:
        self.written.append(frame)


# -- it cannot begin --


@pytest.mark.parametrize(("trouble", "reported"), [(HatchetAway("away"), False), (ZeroDivisionError(), True)])
async def test_trouble_with_the_list_is_hatchets_and_ends_the_session(
    make: Make, trouble: Exception, reported: bool
) -> None:
    membership = Listed(FIRST)
    membership.trouble = trouble
    setup = make(membership)
    setup.session.start()
    with pytest.raises(HatchetError):
        await setup.session.ready()
    assert setup.session.closed
    assert setup.calls == ["ended"]
    assert setup.errors == ([trouble] if reported else [])
    assert membership.watching == []


async def test_a_session_that_is_closed_before_it_is_ready_says_that_hatchet_is_away(make: Make) -> None:
    setup = make(Listed(FIRST))
    asking = asyncio.ensure_future(setup.session.ready())
    await rest()
    setup.session.drop()
    with pytest.raises(HatchetAway):
        await asking


async def test_a_client_of_a_session_that_has_to_begin_anew_does_not_stay_with_it(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    setup.session.lost(setup.session.members[FIRST])
    with pytest.raises(HatchetAway):
        await setup.session.ready()


# -- too many runs --


async def test_clients_of_a_stream_that_grows_too_large_are_told_to_wait_and_it_ends(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    client = Client()
    setup.session._dispatcher.subscribers.add(cast(Any, client))
    setup.runs.room = 1
    setup.session.add(SECOND)
    setup.session._dispatcher.subscribers.clear()
    assert b"event: stream.wait\n" in client.written[0]
    assert b'{"cause":"limit"}' in client.written[0]
    assert setup.session.closed
    assert setup.calls == ["ended"]
    assert SECOND not in setup.session.members
    setup.session.add(THIRD)
    assert setup.calls == ["ended"], "once"
    with pytest.raises(TooManyRuns):
        await setup.session.ready()


async def test_runs_that_are_not_followed_count_for_the_most_that_a_stream_shows(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    setup.runs.room = 1
    for number in range(1, MOST_RUNS):
        setup.session.add(f"{number:036d}", followed=False)
    assert not setup.session.closed, "a run that is not followed needs no room"
    setup.session.add("one more", followed=False)
    assert setup.session.closed


# -- permission --


async def test_a_reader_that_is_gone_is_not_asked_about_later_runs(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    refused: list[str] = []
    for name in ("stays", "leaves"):
        setup.session.guards.add(name, lambda state: False, lambda name=name: refused.append(name))  # type: ignore[misc]
    setup.session.guards.remove("leaves")
    setup.session.guards.remove("leaves")
    setup.session.add(SECOND)
    await until(lambda: refused)
    await setup.listens(SECOND)
    assert refused == ["stays"]


async def test_where_the_first_run_speaks_for_all_no_reader_is_asked(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.guarded = False
    setup = make(membership)
    refused: list[str] = []
    setup.session.guards.add("one", lambda state: False, lambda: refused.append("one"))
    await setup.begin(FIRST, SECOND)
    assert refused == []
    assert setup.session.is_open_to(lambda state: False)


# -- what it was lent, and the end --


async def test_the_end_of_the_run_that_decides_ends_the_stream_and_gives_everything_back(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.decides = FIRST
    setup = make(membership)
    await setup.begin(FIRST, SECOND)
    assert membership.watching == ["begun"]
    assert {run.run_id for run in setup.feed.attached} == {FIRST, SECOND}
    first, second = setup.runs.leased[FIRST], setup.runs.leased[SECOND]
    second.say(End("failed"))
    assert not setup.session.over
    assert setup.runs.released == [SECOND]
    assert setup.feed.attached == [first]
    first.say(happened(FIRST), End("completed"))
    assert (setup.session.over, setup.session.status) == (True, "completed")
    assert sorted(setup.runs.released) == [FIRST, SECOND]
    assert setup.runs.at_once == set(), "other clients may want them"
    assert (first.listeners, second.listeners, setup.feed.attached) == ([], [], [])
    assert setup.calls == ["not needed", "ended"]
    await rest()
    assert membership.watching == ["begun", "ended"]
    frames = len(setup.sent)
    setup.session.announce(StepGap(GapCause.UPSTREAM, None, None, None))
    setup.session.add(THIRD)
    await rest()
    assert len(setup.sent) == frames, "nothing follows the end"
    assert THIRD not in setup.session.members
    assert not setup.session.closed


async def test_a_session_that_is_dropped_gives_everything_back_at_once(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    setup = make(membership)
    await setup.begin(FIRST, SECOND)
    setup.session.drop()
    setup.session.drop()
    assert sorted(setup.runs.released) == [FIRST, SECOND]
    assert setup.runs.at_once == {FIRST, SECOND}
    assert setup.feed.attached == []
    assert setup.calls == ["not needed"]
    await rest()
    assert membership.watching == ["begun", "ended"]


async def test_a_session_begins_anew_once_where_one_of_its_runs_does(make: Make) -> None:
    setup = make(Listed(FIRST, SECOND))
    await setup.begin(FIRST, SECOND)
    for run in (FIRST, SECOND):
        for listener in setup.runs.leased[run].listeners:
            listener.dropped()
    assert setup.session.closed
    assert setup.calls == ["ended"]
    setup.say(SECOND, happened(SECOND))
    setup.session.announce(StepGap(GapCause.UPSTREAM, None, None, None))
    assert setup.sent == []


async def test_it_is_caught_up_when_the_past_was_sent_and_the_end_too_if_the_run_that_decides_is_over(
    make: Make,
) -> None:
    membership = Listed(FIRST, SECOND)
    membership.decides = FIRST
    membership.past, membership.settle_time = {FIRST, SECOND}, 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND)
    assert not setup.session.caught_up
    for run in (FIRST, SECOND):
        setup.say(run, happened(run))
    await until(lambda: len(setup.sent) == 2)
    assert setup.session.caught_up
    setup.runs.leased[FIRST].state = CoreState(FIRST, Status.COMPLETED, True)
    assert not setup.session.caught_up, "its end is still to come"
    setup.say(FIRST, End("completed"))
    assert setup.session.caught_up


async def test_what_is_rebuilt_is_of_all_runs_in_the_order_of_their_creation(make: Make) -> None:
    setup = make(Listed(FIRST, SECOND))
    await setup.begin(FIRST, SECOND)
    setup.session.members[FIRST].created_at = 9
    for run in (FIRST, SECOND):
        setup.runs.leased[run].lifecycle = [happened(run)]
    setup.session.members[SECOND].parent = {"step": "s"}
    rebuilt = await setup.session._rebuild()
    assert [(event.run_id, event.parent) for event in rebuilt] == [(SECOND, {"step": "s"}), (FIRST, None)]
