"""A team's connection to Hatchet: its health follows the answers, and it can be replaced under open calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.core.observations import PastState, Status
from proxy.hatchet.errors import HatchetAway, HatchetError, HistoryAway, RunUnknown, TokenRefused
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamState
from proxy.teams.monitored_upstream import (
    IDLE,
    LACKS_AFTER,
    LACKS_FOR,
    MOST_UNKNOWN,
    NO_RUN,
    MonitoredUpstream,
)
from tests.support.fakes import FakeUpstream, HandClock

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


# -- probes and the history --


async def test_a_probe_learns_without_a_client_that_hatchet_is_away(
    upstream: MonitoredUpstream, client: FakeUpstream, lines: Lines
) -> None:
    await upstream.probe()
    assert (upstream.health.state, upstream.history.state) == (
        UpstreamState.REACHABLE,
        UpstreamState.REACHABLE,
    )
    client.cores[NO_RUN] = HatchetAway("connection refused")
    client.history_fails = HistoryAway("the REST history at h answers HTTP 404")
    upstream._asked_at -= IDLE
    await upstream.probe()
    assert upstream.health.trouble == "connection refused"
    assert (upstream.history.state, upstream.history.trouble) == (
        UpstreamState.AWAY,
        "the REST history at h answers HTTP 404",
    )
    assert [fields["kind"] for event, fields in lines] == ["HatchetAway", "HistoryAway"]
    client.history_fails = None
    await upstream.probe()
    assert upstream.history.state is UpstreamState.REACHABLE
    assert lines[-1][0] == "the history answers again"


async def test_a_probe_asks_grpc_only_where_nobody_asked_a_moment_ago(
    upstream: MonitoredUpstream, client: FakeUpstream
) -> None:
    await upstream.check()
    client.calls.clear()
    await upstream.probe()
    assert client.calls == ["check_history"]


async def test_a_history_that_is_off_is_no_trouble_and_not_asked(lines: Lines) -> None:
    client = FakeUpstream(has_history=False)
    upstream = MonitoredUpstream(client, EventLog(), "chat", TeamCounters())
    await upstream.probe()
    assert (upstream.history.state, upstream.history.is_fine) == (UpstreamState.OFF, True)
    assert "check_history" not in client.calls


async def test_a_history_that_does_not_know_a_run_for_long_is_in_trouble_although_it_answers(
    client: FakeUpstream, lines: Lines
) -> None:
    clock = HandClock()
    event_log = EventLog(lambda level, event, fields: lines.append((event, fields)))
    upstream = MonitoredUpstream(client, event_log, "chat", TeamCounters(), clock=clock)
    client.pasts["run"] = None
    for _ in range(3):
        assert await upstream.past("run") is None
        await clock.turn(LACKS_AFTER / 4)
    assert upstream.history.is_fine, "it is behind for a moment"
    await clock.turn(LACKS_AFTER)
    await upstream.past("run")
    assert "a run that Hatchet knows" in (upstream.history.trouble or "")
    await upstream.check_history()
    assert not upstream.history.is_fine, "another answer proves nothing against that"
    client.pasts["run"] = PastState("run", Status.RUNNING, ())
    await upstream.past("run")
    await clock.turn(LACKS_FOR)
    await upstream.check_history()
    assert upstream.history.trouble is None


async def test_the_runs_that_the_history_did_not_know_are_bounded(
    upstream: MonitoredUpstream, client: FakeUpstream
) -> None:
    for number in range(MOST_UNKNOWN + 50):
        await upstream.past(f"run {number}")
    assert len(upstream._unknown) == MOST_UNKNOWN


async def test_an_error_of_any_call_to_the_history_is_its_health(
    upstream: MonitoredUpstream, client: FakeUpstream
) -> None:
    client.pasts["run"] = HistoryAway("does not answer in time")
    with pytest.raises(HistoryAway):
        await upstream.past("run")
    assert upstream.history.trouble == "does not answer in time"
    assert upstream.health.state is UpstreamState.UNKNOWN, "gRPC may be elsewhere"
