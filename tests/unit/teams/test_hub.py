"""The hub applies configurations: a result and a record for each team, whatever is wrong with others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from config.model.files import AuthConfig, Config, HatchetConfig, ServerConfig, TeamConfig
from config.problems import ERROR, Problem
from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.health import ConfigHealth, ConfigState
from proxy.teams.hub import Hub, Outcome, TeamResult
from tests.support.fakes import FakeUpstream
from tests.support.waiting import until

PROBLEM = Problem("teams/b.yaml", 3, 1, ERROR, "unknown-key", "unknown key `evnts`")


class Upstreams:
    """Makes upstreams and remembers them."""

    def __init__(self) -> None:
        self.made: list[FakeUpstream] = []
        self.closed: list[FakeUpstream] = []

    def connect(self, config: HatchetConfig) -> FakeUpstream:
        upstream = FakeUpstream()
        close = upstream.close

        async def noted() -> None:
            self.closed.append(upstream)
            await close()

        upstream.close = noted  # type: ignore[method-assign]
        self.made.append(upstream)
        return upstream


@pytest.fixture
def upstreams() -> Upstreams:
    return Upstreams()


@pytest.fixture
async def hub(upstreams: Upstreams) -> Hub:
    return Hub(upstreams.connect, Counters(), EventLog())


def team(name: str, *, token: str = "t", key: str | None = None) -> TeamConfig:
    hatchet = HatchetConfig.model_validate({"token": token})
    return TeamConfig(name=name, hatchet=hatchet, auth=None if key is None else _auth(key))


def _auth(key: str) -> AuthConfig:
    return AuthConfig.model_validate({"from": ["bearer"], "jwt": {"algorithms": ["RS256"], "key": key}})


def config(*teams: TeamConfig, broken: tuple[str, ...] = (), server: ServerConfig | None = None) -> Config:
    return Config(
        server or ServerConfig(),
        {team.name: team for team in teams},
        broken=dict.fromkeys(broken, (PROBLEM,)),
        single=False,
    )


async def apply(hub: Hub, config: Config) -> dict[str, TeamResult]:
    return {result.team: result for result in await hub.apply(config, began=time.monotonic())}


def outcomes(results: dict[str, TeamResult]) -> dict[str, Outcome]:
    return {name: result.outcome for name, result in results.items()}


def health(hub: Hub) -> dict[str, ConfigHealth]:
    return {team.name: team.config for team in hub.health().teams}


async def test_each_granted_team_has_a_result(hub: Hub) -> None:
    results = await apply(hub, config(team("a"), team("c"), broken=("b",)))
    assert outcomes(results) == {"a": Outcome.LIVE, "b": Outcome.FAILED, "c": Outcome.LIVE}
    assert results["b"].problems == (str(PROBLEM),)
    assert set(hub.teams) == {"a", "c"}
    assert [hub.is_broken(name) for name in ("a", "b", "nobody")] == [False, True, False]


async def test_what_has_not_changed_is_not_counted_as_a_reload(hub: Hub) -> None:
    await apply(hub, config(team("a"), team("b")))
    results = await apply(hub, config(team("a"), team("b", token="other")))
    assert outcomes(results) == {"a": Outcome.UNCHANGED, "b": Outcome.LIVE}
    assert health(hub)["a"].reloads == {"ok": 1}
    assert health(hub)["b"].reloads == {"ok": 2}
    assert health(hub)["b"].reloaded_at > 0


async def test_a_broken_version_keeps_the_last_good_one_and_says_why(hub: Hub) -> None:
    await apply(hub, config(team("b")))
    served = hub.teams["b"]
    results = await apply(hub, config(broken=("b",)))
    assert outcomes(results) == {"b": Outcome.FAILED}
    assert hub.teams["b"] is served
    assert not hub.is_broken("b")
    shown = health(hub)["b"]
    assert (shown.state, shown.problem, shown.reloads) == (
        ConfigState.LAST_GOOD,
        str(PROBLEM),
        {"ok": 1, "failed": 1},
    )


async def test_a_version_that_is_mended_goes_live_even_if_it_is_the_one_served(hub: Hub) -> None:
    await apply(hub, config(team("b")))
    await apply(hub, config(broken=("b",)))
    results = await apply(hub, config(team("b")))
    assert outcomes(results) == {"b": Outcome.LIVE}
    assert (health(hub)["b"].state, health(hub)["b"].problem) == (ConfigState.CURRENT, None)


async def test_a_key_that_cannot_work_fails_its_team_alone(hub: Hub, upstreams: Upstreams) -> None:
    await apply(hub, config(team("a"), team("b")))
    results = await apply(hub, config(team("a", key="no PEM"), team("b", token="other"), team("c", key="no")))
    assert outcomes(results) == {"a": Outcome.FAILED, "b": Outcome.LIVE, "c": Outcome.FAILED}
    assert "auth.jwt.key" in results["a"].problems[0]
    assert health(hub)["a"].state is ConfigState.LAST_GOOD
    assert health(hub)["c"].state is ConfigState.BROKEN
    assert hub.is_broken("c")
    assert upstreams.made[-1] in upstreams.closed, "the client of a team that never was served is closed"


async def test_a_rejected_version_fails_every_team_and_the_next_good_one_is_a_reload(hub: Hub) -> None:
    await apply(hub, config(team("a"), broken=("b",)))
    hub.reject(["proxy.yaml:1:1: what"], began=time.monotonic())
    assert {name: shown.state for name, shown in health(hub).items()} == {
        "a": ConfigState.LAST_GOOD,
        "b": ConfigState.BROKEN,
    }
    assert health(hub)["a"].problem == "proxy.yaml:1:1: what"
    assert outcomes(await apply(hub, config(team("a")))) == {"a": Outcome.LIVE}


async def test_a_team_that_is_not_granted_any_more_is_closed_and_forgotten(
    hub: Hub, upstreams: Upstreams
) -> None:
    await apply(hub, config(team("a"), team("b"), broken=("c",)))
    assert outcomes(await apply(hub, config(team("a")))) == {"a": Outcome.UNCHANGED}
    assert set(hub.teams) == {"a"}
    assert set(health(hub)) == {"a"}
    assert not hub.is_broken("b")
    assert upstreams.closed == [upstreams.made[1]]


async def test_the_connection_is_replaced_only_where_the_way_to_hatchet_changed(
    hub: Hub, upstreams: Upstreams
) -> None:
    await apply(hub, config(team("a")))
    changed = team("a").model_copy(update={"auth_written": True})
    assert outcomes(await apply(hub, config(changed))) == {"a": Outcome.LIVE}
    assert len(upstreams.made) == 1
    await apply(hub, config(team("a", token="new")))
    assert len(upstreams.made) == 2
    assert upstreams.closed == upstreams.made[:1]


async def test_a_change_of_the_server_reaches_teams_that_did_not_change(hub: Hub) -> None:
    await apply(hub, config(team("a")))
    server = ServerConfig.model_validate({"linger": "7s"})
    assert outcomes(await apply(hub, config(team("a"), server=server))) == {"a": Outcome.UNCHANGED}
    assert hub.teams["a"].server.linger == 7.0


async def test_a_request_that_waits_has_its_own_place(hub: Hub) -> None:
    hub.max_clients = 1  # type: ignore[misc]
    assert not hub.is_full(waits=False)
    waiting = asyncio.create_task(asyncio.Event().wait())
    hub.wait_for(waiting)
    assert hub.is_full(waits=False)
    assert not hub.is_full(waits=True)
    hub.drain()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert not hub.waiting


async def test_an_exception_in_the_search_for_stuck_clients_is_reported_and_the_search_goes_on(
    upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    hub = Hub(upstreams.connect, Counters(), EventLog(lambda level, event, fields: lines.append(event)))
    searches = 0

    def broken(since: float) -> list[Any]:
        nonlocal searches
        searches += 1
        raise RecursionError

    monkeypatch.setattr("proxy.teams.hub.SWEEP", 0.001)
    monkeypatch.setattr(hub.sessions, "stuck", broken)
    hub.start()
    await until(lambda: searches > 2)
    await hub.close()
    assert lines == ["unforeseen error"], "once a minute"
