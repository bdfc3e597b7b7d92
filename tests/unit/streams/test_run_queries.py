"""What is asked of Hatchet about a run that is over: whether it was replayed since."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from proxy.core.events import Event
from proxy.core.observations import CoreState, CoreStep, Status
from proxy.hatchet.errors import HatchetAway
from proxy.streams.run_queries import RunQueries
from tests.support.fakes import FakeUpstream
from tests.unit.streams.test_dispatcher import RUN


def state(status: Status = Status.COMPLETED) -> CoreState:
    done = status is Status.COMPLETED
    return CoreState(RUN, status, done, (CoreStep("one", "id-one", status, "{}" if done else None),))


def every(events: Iterable[Event]) -> bool:
    assert list(events)
    return True


def none(events: Iterable[Event]) -> bool:
    return False


@pytest.fixture
def upstream() -> FakeUpstream:
    one = FakeUpstream(has_history=False)
    one.cores[RUN] = state()
    return one


async def test_a_run_whose_events_were_all_published_was_not_replayed(upstream: FakeUpstream) -> None:
    assert not await RunQueries(RUN, upstream).replayed(every)


async def test_a_run_that_goes_on_again_was_replayed(upstream: FakeUpstream) -> None:
    upstream.cores[RUN] = state(Status.RUNNING)
    assert await RunQueries(RUN, upstream).replayed(every)


async def test_a_run_that_is_over_again_with_other_events_was_replayed(upstream: FakeUpstream) -> None:
    assert await RunQueries(RUN, upstream).replayed(none)


async def test_the_answer_is_reused_and_an_end_that_was_just_seen_is_not_asked_about(
    upstream: FakeUpstream,
) -> None:
    asked, ended = RunQueries(RUN, upstream), RunQueries(RUN, upstream)
    await asked.replayed(every)
    assert not asked.may_be_replayed
    ended.ended()
    assert [await each.replayed(none) for each in (asked, ended)] == [False, False]
    assert upstream.calls == ["core"]


async def test_a_hatchet_that_is_away_contradicts_no_end_and_is_asked_again(upstream: FakeUpstream) -> None:
    upstream.cores[RUN] = HatchetAway("no answer")
    queries = RunQueries(RUN, upstream)
    assert not await queries.replayed(none)
    upstream.cores[RUN] = state()
    assert await queries.replayed(none)
