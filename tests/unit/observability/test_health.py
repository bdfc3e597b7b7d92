"""What the probes answer: healthz for the loop, readyz for the pod, a team's trouble in the body."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from proxy.observability.health import (
    ConfigHealth,
    ConfigState,
    Health,
    SubscriptionHealth,
    TeamHealth,
    UpstreamHealth,
    UpstreamState,
    healthz,
    readyz,
    spell,
)

NOW = 1_790_003_661.0
STARTED = NOW - 3661

FINE = TeamHealth("search", UpstreamHealth(UpstreamState.REACHABLE, NOW - 60))
AWAY = TeamHealth(
    "payments", UpstreamHealth(UpstreamState.AWAY, NOW - 75, "connection refused at hatchet:7077")
)
STALE = TeamHealth(
    "chat",
    UpstreamHealth(UpstreamState.REACHABLE, NOW - 5),
    ConfigHealth(ConfigState.LAST_GOOD, NOW - 7200, "teams/chat.yaml:3:5: what"),
)


def health(*teams: TeamHealth, loaded: bool = True, draining: bool = False) -> Health:
    return Health(STARTED, "1.2.3", loaded, draining, teams)


def test_healthz_is_fine_whatever_the_teams_say() -> None:
    for state in (health(AWAY), health(loaded=False), health(draining=True)):
        answer = healthz(state, NOW)
        assert answer.status == 200
        assert answer.body == {"status": "alive", "version": "1.2.3", "up": "1 h 1 min"}


@pytest.mark.parametrize(
    ("state", "status", "word"),
    [
        (health(FINE), 200, "ready"),
        (health(), 200, "ready"),
        (health(FINE, AWAY), 200, "degraded"),
        (health(STALE), 200, "degraded"),
        (health(FINE, loaded=False), 503, "starting"),
        (health(FINE, draining=True), 503, "draining"),
        (health(AWAY, draining=True), 503, "draining"),
    ],
)
def test_readyz_is_about_the_pod(state: Health, status: int, word: str) -> None:
    answer = readyz(state, NOW)
    assert (answer.status, answer.body["status"]) == (status, word)


@pytest.mark.parametrize(
    ("teams", "status"),
    [((FINE,), 200), ((FINE, AWAY), 503), ((STALE,), 503), ((TeamHealth("idle"),), 200), ((), 200)],
)
def test_strict_asks_for_every_team(teams: tuple[TeamHealth, ...], status: int) -> None:
    assert readyz(health(*teams), NOW, strict=True).status == status


def test_one_team_can_be_asked_for_alone() -> None:
    state = health(FINE, AWAY)
    assert readyz(state, NOW, team="search").status == 200
    assert readyz(state, NOW, team="payments").status == 503
    assert list(readyz(state, NOW, team="payments").body["teams"]) == ["payments"]


def test_a_team_that_is_not_there_is_named_among_those_that_are() -> None:
    answer = readyz(health(FINE, AWAY), NOW, team="serach")
    assert (answer.status, answer.body) == (404, {"status": "unknown team", "teams": ["payments", "search"]})


def test_the_body_says_what_is_wrong_and_since_when() -> None:
    body = json.loads(json.dumps(readyz(health(AWAY, STALE), NOW).body))
    assert body["teams"]["payments"] == {
        "upstream": {
            "state": "away",
            "since": "2026-09-21T15:13:06Z",
            "for": "1 min 15 s",
            "trouble": "connection refused at hatchet:7077",
        },
        "history": {"state": "off"},
        "issuer": {"state": "off"},
        "config": {"state": "current", "since": "2026-09-21T14:13:20Z", "for": "1 h 1 min"},
        "subscriptions": {"used": 0, "limit": 0, "state_only_runs": 0},
    }
    assert body["teams"]["chat"]["config"]["state"] == "last good"
    assert body["teams"]["chat"]["config"]["problem"] == "teams/chat.yaml:3:5: what"


@pytest.mark.parametrize("which", ["history", "issuer"])
def test_a_history_or_an_issuer_in_trouble_is_shown_and_counts_where_it_is_asked_strictly(which: str) -> None:
    trouble = UpstreamHealth(UpstreamState.AWAY, NOW - 75, f"the {which} answers HTTP 404")
    alone = TeamHealth("search")
    team = replace(alone, history=trouble) if which == "history" else replace(alone, issuer=trouble)
    assert readyz(health(team), NOW).status == 200
    assert readyz(health(team), NOW, strict=True).status == 503
    assert readyz(health(team), NOW, team="search").status == 503
    shown = readyz(health(team), NOW).body["teams"]["search"][which]
    assert (shown["state"], shown["for"], shown["trouble"]) == (
        "away",
        "1 min 15 s",
        f"the {which} answers HTTP 404",
    )


def test_a_shared_log_that_is_away_is_shown_and_counts_where_it_is_asked_strictly() -> None:
    off = health(FINE)
    assert "log" not in readyz(off, NOW).body, "there is none"
    up = replace(off, log=UpstreamHealth(UpstreamState.REACHABLE, NOW - 60))
    assert readyz(up, NOW, strict=True).status == 200
    away = replace(off, log=UpstreamHealth(UpstreamState.AWAY, NOW - 75, "Redis did not answer in time"))
    answer = readyz(away, NOW)
    assert (answer.status, answer.body["status"]) == (200, "degraded"), "the pod serves from memory"
    assert readyz(away, NOW, strict=True).status == 503
    assert "Redis did not answer in time" in json.dumps(answer.body["log"])
    assert "1 min 15 s" in json.dumps(answer.body["log"])


def test_runs_without_a_subscription_are_shown_with_the_remedy_and_are_no_trouble() -> None:
    team = TeamHealth("search", subscriptions=SubscriptionHealth(used=8, limit=8, state_only=2))
    answer = readyz(health(team), NOW, strict=True)
    assert answer.status == 200
    shown = answer.body["teams"]["search"]["subscriptions"]
    assert (shown["used"], shown["limit"], shown["state_only_runs"]) == (8, 8, 2)
    assert "hatchet.tap" in shown["remedy"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h")],
)
def test_spans_are_said_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert spell(seconds) == text
