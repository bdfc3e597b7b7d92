"""The proxy as a process runs it: what is switched on while it serves, and that nothing is left after it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.load import load
from config.watch import Fingerprint, fingerprint
from proxy.observability.event_log import EventLog
from proxy.server.assembly import Assembly
from proxy.server.gc_policy import YOUNG
from proxy.server.http.sockets import bound
from tests.support.fakes import FakeUpstream
from tests.support.waiting import until
from tests.unit.server.test_reloader import TOKEN, text


@asynccontextmanager
async def running(
    path: Path, served: Fingerprint | None = None, meanwhile: str = ""
) -> AsyncIterator[Assembly]:
    """A proxy that serves `path` until the end of the block; `meanwhile`: the file before it is watched."""
    log = EventLog(lambda level, event, fields: None)
    one = Assembly(path, TOKEN, log, connect=lambda config: FakeUpstream(), served=served)
    await one.start(load(path, TOKEN))
    if meanwhile:
        path.write_text(meanwhile)
    task = asyncio.create_task(one.run(bound("127.0.0.1", 0)))
    await until(lambda: one.server.started)
    try:
        yield one
    finally:
        one.server.should_exit = True
        await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "streams.yaml"
    file.write_text(text("2s"))
    return file


async def test_a_change_between_the_reading_of_the_files_and_the_start_is_served(path: Path) -> None:
    async with running(path, served=fingerprint(path), meanwhile=text("17s")) as one:
        await until(lambda: one.hub.teams["default"].streams["chat"].config.retry == 17.0)


async def test_the_collectors_rules_hold_while_it_serves(path: Path) -> None:
    before = gc.get_threshold()
    async with running(path) as one:
        assert gc.get_threshold()[0] == YOUNG
        assert sum(one.hub.counters.collector_pauses.buckets) > 0
    assert gc.get_threshold() == before


async def test_threads_that_hang_do_not_keep_it(path: Path) -> None:
    async with running(path):
        assert await asyncio.to_thread(lambda: threading.current_thread().daemon)


async def test_nothing_runs_after_it_has_stopped(path: Path) -> None:
    async with running(path):
        assert len(asyncio.all_tasks()) > 2
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
