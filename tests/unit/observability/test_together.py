"""The counters and the health of several workers as one."""

from __future__ import annotations

from proxy.observability.counters import Counters
from proxy.observability.health import (
    ConfigHealth,
    ConfigState,
    Health,
    LimitHealth,
    SubscriptionHealth,
    TeamHealth,
    UpstreamHealth,
    UpstreamState,
    readyz,
    together,
)


def counters(frames: int) -> Counters:
    one = Counters(log_lines_dropped=1)
    team = one.team("a")
    team.events, team.runs, team.backlog_bytes = frames, 2, 100
    team.subscriptions["run"] += 3
    stream = team.stream("chat")
    stream.clients, stream.frames = 4, frames
    stream.gaps["upstream"] += 1
    stream.latency.observe(0.002, 5)
    one.loop_lag.observe(0.5)
    return one


def test_every_number_is_added_and_the_parts_stay_as_they_were() -> None:
    parts = [counters(10), counters(20), Counters()]
    total = Counters.sum(parts)
    team = total.teams["a"]
    assert (team.events, team.runs, team.backlog_bytes, team.subscriptions["run"]) == (30, 4, 200, 6)
    stream = team.streams["chat"]
    assert (stream.clients, stream.frames, stream.gaps["upstream"], stream.latency.total) == (8, 30, 2, 0.02)
    assert sum(total.loop_lag.buckets) == 2
    assert total.log_lines_dropped == 2
    assert parts[0].teams["a"].streams["chat"].frames == 10


def test_what_a_process_held_ends_with_it_and_what_it_counted_does_not() -> None:
    left = counters(10).lasting().teams["a"]
    assert (left.runs, left.backlog_bytes, left.subscriptions, left.streams["chat"].clients) == (0, 0, {}, 0)
    assert (left.events, left.streams["chat"].frames, left.streams["chat"].gaps["upstream"]) == (10, 10, 1)


def health(**team: object) -> Health:
    return Health(started=10.0, version="1", teams=(TeamHealth("a", **team),))  # type: ignore[arg-type]


def test_the_worst_state_and_the_sum_of_shares_are_reported() -> None:
    away = UpstreamHealth(UpstreamState.AWAY, 5.0, "refused")
    broken = ConfigHealth(ConfigState.LAST_GOOD, 5.0, "line 3")
    shares = {"connections": LimitHealth(5, 3, 2, 100.0), "connections_per_run": LimitHealth(500, 7)}
    one = health(upstream=UpstreamHealth(UpstreamState.REACHABLE), limits=shares)
    other = health(upstream=away, config=broken, limits=shares, subscriptions=SubscriptionHealth(1, 3, 1))
    [team] = together([one, other]).teams
    assert (team.upstream, team.config) == (away, broken)
    assert team.subscriptions == SubscriptionHealth(1, 3, 1)
    assert team.limits["connections"] == LimitHealth(10, 6, 4, 100.0)
    assert team.limits["connections_per_run"] == LimitHealth(500, 7)
    assert team.name == "a"


def test_readyz_names_the_workers_only_where_there_are_several() -> None:
    one = together([health()])
    assert "workers" not in readyz(one, 20.0).body
    several = Health(started=10.0, version="1", workers=3, silent_workers=1)
    assert readyz(several, 20.0).body["workers"] == {"count": 3, "answering": 2}
