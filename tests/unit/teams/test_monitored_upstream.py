"""A team's connection to Hatchet: its health follows the answers, and it can be replaced under open calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.hatchet.errors import HatchetAway, HatchetError, RunUnknown, TokenRefused
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamState
from proxy.teams.monitored_upstream import NO_RUN, MonitoredUpstream
from tests.support.fakes import FakeUpstream

Lines = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def client() -> FakeUpstream:
    return FakeUpstream()


@pytest.fixture
def upstream(client: FakeUpstream, lines: Lines) -> MonitoredUpstream:
    event_log = EventLog(lambda level, event, fields: lines.append((event, fields)))
    return MonitoredUpstream(client, event_log, "chat", TeamCounters())


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (RunUnknown("no such run"), UpstreamState.REACHABLE),
        (HatchetAway("connection refused"), UpstreamState.AWAY),
        (TokenRefused("the token is not valid"), UpstreamState.REFUSED),
    ],
)
async def test_the_answer_to_a_call_is_the_health(
    upstream: MonitoredUpstream, client: FakeUpstream, answer: HatchetError, state: UpstreamState
) -> None:
    assert upstream.health.state is UpstreamState.UNKNOWN
    client.cores[NO_RUN] = answer
    with pytest.raises(type(answer)):
        await upstream.core(NO_RUN)
    fine = state is UpstreamState.REACHABLE
    assert (upstream.health.state, upstream.health.trouble) == (state, None if fine else str(answer))
    assert upstream.health.since is not None


async def test_that_hatchet_answers_again_is_logged_once(
    upstream: MonitoredUpstream, client: FakeUpstream, lines: Lines
) -> None:
    await upstream.check()
    assert lines == [], "the first answer is no recovery"
    client.cores[NO_RUN] = HatchetAway("connection refused")
    with pytest.raises(HatchetAway):
        await upstream.check()
    del client.cores[NO_RUN]
    await upstream.check()
    await upstream.check()
    assert [event for event, _ in lines] == ["trouble with Hatchet", "Hatchet answers again"]


async def test_the_history_can_fail_while_hatchet_answers(
    upstream: MonitoredUpstream, client: FakeUpstream, lines: Lines
) -> None:
    await upstream.check()
    client.pasts["run"] = HatchetAway("the history is out of reach")
    with pytest.raises(HatchetAway):
        await upstream.past("run")
    assert upstream.health.state is UpstreamState.REACHABLE
    assert [event for event, _ in lines] == ["trouble with Hatchet"]


async def test_a_subscription_on_a_replaced_connection_ends_with_an_error_so_that_it_is_opened_again(
    upstream: MonitoredUpstream, client: FakeUpstream
) -> None:
    opened = asyncio.Event()
    following = asyncio.create_task(upstream.follow("run", lambda event: None, opened.set))
    await opened.wait()
    await upstream.replace(FakeUpstream())
    with pytest.raises(HatchetAway, match="replaced"):
        await following
    assert client.open == []
