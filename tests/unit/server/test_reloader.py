"""The reloader: what a version of the files does to the teams, and what is logged of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from config.model.files import Config
from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.health import ConfigState
from proxy.server.reloader import Reloader
from proxy.teams.hub import Hub
from tests.support.fakes import FakeUpstream, rest
from tests.support.waiting import until

TOKEN = {"TOKEN": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ0In0.c2ln"}
STREAM = """streams:
  chat:
    path: /chat/{{workflowRunId}}
    retry: {retry}
    rules: [{{events: step_stream, data: payload}}]
"""
FAILING = """tests:
  - name: chunks are dropped
    stream: chat
    given: {type: step_stream, payload: a token, step: answer}
    expect: nothing
"""


def text(retry: str = "2s", more: str = "") -> str:
    return (
        "version: 1\nhatchet: {token: '${TOKEN}', tls: none, api: off}\n" + STREAM.format(retry=retry) + more
    )


class Files:
    """A proxy's file, its hub, its reloader and the lines that were logged."""

    def __init__(self, path: Path, *, on_loopback: bool = True) -> None:
        self.path = path
        self.upstreams: list[FakeUpstream] = []
        self.lines: list[tuple[str, str, Mapping[str, Any]]] = []
        event_log = EventLog(lambda level, event, fields: self.lines.append((level, event, fields)))
        self.hub = Hub(self._connect, Counters(), event_log)
        self.reloader = Reloader(path, TOKEN, self.hub, event_log, on_loopback=on_loopback)

    def _connect(self, config: object) -> FakeUpstream:
        self.upstreams.append(FakeUpstream())
        return self.upstreams[-1]

    async def start(self, written: str) -> None:
        self.path.write_text(written)
        await self.reloader.start(load(self.path, TOKEN))

    async def change(self, written: str) -> None:
        self.path.write_text(written)
        await self.reloader.reload()

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]

    @property
    def retry(self) -> float:
        """The setting by which the versions of the file differ, as it is served."""
        return self.hub.teams["default"].streams["chat"].config.retry


Make = Callable[..., Files]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "streams.yaml")


async def test_at_the_start_every_teams_hatchet_is_asked_once(files: Files) -> None:
    await files.start(text())
    [upstream] = files.upstreams
    await until(lambda: "core" in upstream.calls)
    await rest()
    assert upstream.calls.count("core") == 1
    assert "reloaded" not in files.events


async def test_a_changed_version_is_served_and_logged(files: Files) -> None:
    await files.start(text("2s"))
    await files.change(text("7s"))
    assert files.retry == 7.0
    assert files.events == ["reloaded"]


async def test_an_unchanged_version_is_not_logged(files: Files) -> None:
    await files.start(text())
    await files.change(text())
    assert files.events == []


async def test_a_version_that_cannot_be_read_keeps_the_one_before(files: Files) -> None:
    await files.start(text("2s"))
    await files.change(text("7s").replace("streams:", "streams"))
    assert files.retry == 2.0
    [(level, event, fields)] = files.lines
    assert (level, event, fields["team"]) == ("error", "reload failed", "*")
    assert str(files.path.name) in fields["problems"][0]
    [team] = files.hub.health().teams
    assert team.config.state is ConfigState.LAST_GOOD
    assert team.config.problem == fields["problems"][0]


async def test_a_version_whose_tests_fail_keeps_the_one_before_and_names_the_team(files: Files) -> None:
    await files.start(text("2s"))
    await files.change(text("7s", FAILING))
    assert files.retry == 2.0
    [(level, event, fields)] = files.lines
    assert (level, event, fields["team"]) == ("error", "reload failed", "default")
    assert "chunks are dropped" in fields["problems"][0]


async def test_a_first_version_whose_tests_fail_is_not_served(files: Files) -> None:
    await files.start(text(more=FAILING))
    assert not files.hub.teams
    assert files.events == ["reload failed"]


async def test_the_next_good_version_is_served_again(files: Files) -> None:
    await files.start(text("2s"))
    await files.change("version: 1\n")
    await files.change(text("7s"))
    assert files.retry == 7.0
    assert files.events[-1] == "reloaded"


@pytest.mark.parametrize("auth", ["", "auth: none\n"])
async def test_beyond_loopback_a_version_without_auth_is_served_only_if_it_says_so(
    tmp_path: Path, auth: str
) -> None:
    files = Files(tmp_path / "streams.yaml", on_loopback=False)
    await files.start(text("2s", "auth: none\n"))
    await files.change(text("7s", auth))
    assert files.retry == (7.0 if auth else 2.0)
    [(_, event, fields)] = files.lines
    assert event == ("reloaded" if auth else "reload failed")
    assert auth or "default" in fields["problems"][0]


async def test_a_version_without_auth_is_refused_even_if_its_tests_fail(tmp_path: Path) -> None:
    files = Files(tmp_path / "streams.yaml", on_loopback=False)
    await files.start(text("2s", "auth: none\n"))
    await files.change(text("7s", FAILING))
    [(_, _, fields)] = files.lines
    assert "`auth` is missing" in fields["problems"][0]


async def test_on_loopback_a_version_needs_no_auth(files: Files) -> None:
    await files.start(text("2s"))
    await files.change(text("7s"))
    assert files.retry == 7.0


async def test_warnings_of_a_version_that_is_served_are_logged(files: Files) -> None:
    unused = "shapes: {unused: {a: payload}}\n"
    await files.start(text("2s", unused))
    assert files.events == ["configuration warnings"]
    assert "unused" in files.lines[0][2]["problems"][0]


async def test_a_new_port_is_said_to_need_a_restart(files: Files) -> None:
    await files.start(text("2s", "server: {port: 8081}\n"))
    await files.change(text("7s", "server: {port: 8082, admin_port: 8083, linger: 5s}\n"))
    assert files.retry == 7.0
    assert files.lines[0][2]["problems"] == [
        f"`server.{name}` is only read at the start: restart the proxy to use it"
        for name in ("port", "admin_port")
    ]
    files.lines.clear()
    await files.change(text("8s", "server: {port: 8081, linger: 6s}\n"))
    assert files.events == ["reloaded"]


async def test_reloads_are_made_one_after_another_and_outside_of_the_loop(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.start(text("2s"))
    under_way, most, threads = 0, 0, set[int]()
    all_asked, loop_thread = threading.Event(), threading.get_ident()

    def slow(path: Path, env: Mapping[str, str]) -> Config:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        threads.add(threading.get_ident())
        if threading.get_ident() != loop_thread:
            all_asked.wait(30)
        under_way -= 1
        return load(path, env)

    monkeypatch.setattr("proxy.server.reloader.load", slow)
    reloads = [asyncio.create_task(files.reloader.reload()) for _ in range(3)]
    await until(lambda: under_way)
    for _ in range(10):
        await asyncio.sleep(0)
    all_asked.set()
    await asyncio.gather(*reloads)
    assert most == 1
    assert loop_thread not in threads
