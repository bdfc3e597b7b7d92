"""A reload has a time limit, and nothing that goes wrong in one keeps later ones from happening."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.health import ConfigState
from proxy.rules.test_runner import failures
from proxy.server import reloader as reloading
from proxy.server.reloader import Reloader
from proxy.teams.hub import Hub
from proxy.teams.team import Team
from tests.support.fakes import FakeUpstream
from tests.support.hatchet_server import token
from tests.support.waiting import until

PROXY = """
version: 1
teams:
  a: {hatchet: {token: "${TOKEN}"}}
  b: {hatchet: {token: "${TOKEN}"}}
"""
TEAM = """
version: 1
streams:
  live: {path: "/live/{workflowRunId}", rules: [{events: "*"}]}
tests:
  - name: it is sent
    stream: live
    given: {type: step_completed, step: s}
    expect: {data: {type: step_completed, step: s, payload: null}}
"""
ENV = {"TOKEN": token()}


class Setup:
    """A reloader, its hub, and the log."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self.lines: list[tuple[str, str, Any]] = []
        log = EventLog(lambda *line: self.lines.append(line))
        self.hub = Hub(lambda config: FakeUpstream(), Counters(), log)
        self.reloader = Reloader(folder, ENV, self.hub, log, patience=patience)

    def states(self) -> dict[str, ConfigState]:
        return {team.name: team.config.state for team in self.hub.health().teams}

    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    (tmp_path / "teams").mkdir()
    (tmp_path / "proxy.yaml").write_text(PROXY)
    for name in "ab":
        (tmp_path / "teams" / f"{name}.yaml").write_text(TEAM)
    one = Setup(tmp_path, patience=60.0)
    await one.reloader.start(load(tmp_path, ENV))
    yield one
    await one.hub.close()


async def test_a_load_that_hangs_is_given_up_and_made_up_for_when_it_is_over(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.reloader._patience = 0.2
    go_on, loads = threading.Event(), []

    def hanging(path: Path, env: dict[str, str]) -> Any:
        loads.append(path)
        go_on.wait(50)
        return load(path, env)

    monkeypatch.setattr(reloading, "load", hanging)
    await setup.reloader.reload()
    assert setup.events().count("reload failed") == 1
    assert setup.states() == {"a": ConfigState.LAST_GOOD, "b": ConfigState.LAST_GOOD}
    await setup.reloader.reload()
    assert len(loads) == 1, "no second thread is begun while the first one hangs"
    setup.reloader._patience = 60.0
    go_on.set()
    await until(lambda: setup.states() == {"a": ConfigState.CURRENT, "b": ConfigState.CURRENT})


@pytest.mark.parametrize("place", ["load", "apply"])
async def test_an_exception_that_should_not_be_possible_is_reported_and_the_next_reload_works(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*args: object, **kwargs: object) -> Any:
        raise RecursionError

    with monkeypatch.context() as patch:
        if place == "load":
            patch.setattr(reloading, "load", broken)
        else:
            patch.setattr(setup.hub, "apply", broken)
        await setup.reloader.reload()
    assert "unforeseen error" in setup.events()
    assert setup.states() == {"a": ConfigState.LAST_GOOD, "b": ConfigState.LAST_GOOD}
    await setup.reloader.reload()
    assert setup.states() == {"a": ConfigState.CURRENT, "b": ConfigState.CURRENT}


@pytest.mark.parametrize("place", ["tests", "configure"])
async def test_an_exception_over_one_team_keeps_that_team_alone_on_its_version(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    changed = TEAM.replace("live:", "new:").replace(": live", ": new")
    for name in "ab":
        (setup.folder / "teams" / f"{name}.yaml").write_text(changed)
    configure = Team.configure

    def broken_tests(team: Any, *more: Any) -> Any:
        if team.name == "a":
            raise RecursionError
        return failures(team, *more)

    def broken_configure(team: Team, *args: Any) -> None:
        if team.name == "a":
            raise RecursionError
        configure(team, *args)

    if place == "tests":
        monkeypatch.setattr(reloading, "failures", broken_tests)
    else:
        monkeypatch.setattr(Team, "configure", broken_configure)
    await setup.reloader.reload()
    assert setup.states() == {"a": ConfigState.LAST_GOOD, "b": ConfigState.CURRENT}
    assert [*setup.hub.teams["a"].streams] == ["live"]
    assert [*setup.hub.teams["b"].streams] == ["new"]


async def test_a_cancelled_reload_lets_the_next_one_go_on(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(reloading, "load", lambda path, env: (go_on.wait(50), load(path, env))[1])
    task = asyncio.create_task(setup.reloader.reload())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await setup.reloader.reload()
    assert setup.states() == {"a": ConfigState.CURRENT, "b": ConfigState.CURRENT}
