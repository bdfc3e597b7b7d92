"""Threads that hang never keep the process alive, and the loop takes them for its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from proxy.server.daemon_threads import MOST, DaemonThreads


@pytest.fixture
async def threads() -> AsyncIterator[DaemonThreads]:
    executor = DaemonThreads()
    asyncio.get_running_loop().set_default_executor(executor)
    yield executor


async def test_results_and_errors_come_back(threads: DaemonThreads) -> None:
    assert await asyncio.to_thread(lambda: 7) == 7
    with pytest.raises(KeyError):
        await asyncio.to_thread(lambda: {"a": 1}["nothing"])
    assert await asyncio.to_thread(lambda: threading.current_thread().daemon)


async def test_a_call_that_was_given_up_before_it_began_is_not_made(threads: DaemonThreads) -> None:
    go_on = threading.Event()
    calls: list[int] = []
    hanging = [threads.submit(go_on.wait) for _ in range(MOST)]
    waiting = threads.submit(calls.append, 1)
    assert waiting.cancel()
    go_on.set()
    for future in hanging:
        await asyncio.wrap_future(future)
    assert await asyncio.to_thread(lambda: 7) == 7
    assert calls == []


def test_a_process_whose_thread_hangs_ends() -> None:
    code = (
        "import asyncio, threading\n"
        "from proxy.server.daemon_threads import DaemonThreads\n"
        "async def main():\n"
        "    asyncio.get_running_loop().set_default_executor(DaemonThreads())\n"
        "    hanging = asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))\n"
        "    await asyncio.wait([hanging], timeout=0.1)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=50, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
