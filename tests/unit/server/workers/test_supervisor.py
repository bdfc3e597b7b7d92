"""The parent of the workers: which signals it passes on, whom it replaces, and what its exit status says.

It forks and handles signals, so each test runs it in a process of its own.
"""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractAsyncContextManager
from textwrap import dedent

import pytest

from tests.support.processes import Running, running

PROGRAM = """
import os, signal, sys, time, types
from proxy.server.workers import supervisor

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

deaths = []

def replaced(index, status):
    deaths.append(index)
    say("died", index, status)

def up(index):
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    say("up", index, "alone" if os.getpgrp() == os.getpid() else "in a group", "deaf" if ignored else "")

def until_the_parent_ends(parent):
    os.read(parent, 1)
    return 0

def pause(seconds):
    say("pause", seconds)

WORK
supervisor.time = types.SimpleNamespace(monotonic=time.monotonic, sleep=pause)
sys.exit(supervisor.Supervisor(2, work, replaced).run())
"""
HANDLING = """
def work(index, parent):
    stops = []
    def stop(*_):
        stops.append(index)
        say("stop", index, len(stops))
        if len(stops) == 2:
            os._exit(7 - index)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, lambda *_: say("reload", index))
    up(index)
    return until_the_parent_ends(parent)
"""
FORKING = """
ready = os.pipe()
fork = os.fork
forks = []

def fork_and_signal():
    forks.append(fork())
    if forks[-1]:
        os.read(ready[0], 1)
        if len(forks) == WHICH:
            os.kill(os.getpid(), signal.SIGHUP)
    return forks[-1]

os.fork = fork_and_signal
"""
DYING = """
def work(index, parent):
    up(index)
    if index == 1 and not deaths:
        return 5
    return until_the_parent_ends(parent)
"""


def supervised(work: str) -> AbstractAsyncContextManager[Running]:
    """A supervisor of two workers that do `work`."""
    return running(program=(sys.executable, "-c", PROGRAM.replace("WORK", dedent(work))))


async def test_every_worker_gets_each_signal_also_a_second_one_and_the_highest_status_counts() -> None:
    async with supervised(HANDLING) as parent:
        for index in range(2):
            await parent.wait_for_output(f"up {index} alone")
        parent.process.send_signal(signal.SIGUSR1)
        parent.process.send_signal(signal.SIGUSR2)
        parent.process.send_signal(signal.SIGHUP)
        for line in ("reload 0", "reload 1"):
            await parent.wait_for_output(line)
        for count in (1, 2):
            parent.process.send_signal(signal.SIGTERM)
            for index in range(2):
                await parent.wait_for_output(f"stop {index} {count}")
        assert await parent.ended() == 7
        assert "died" not in parent.output


@pytest.mark.parametrize("which", [0, 1])
async def test_a_reload_reaches_a_worker_that_was_forked_just_before(which: int) -> None:
    handling = HANDLING.replace("up(index)", 'up(index)\n    os.write(ready[1], b".")')
    async with supervised(FORKING.replace("WHICH", str(which + 1)) + handling) as parent:
        for index in range(which + 1):
            await parent.wait_for_output(f"reload {index}")
        await parent.wait_for_output("up 1")
        parent.process.send_signal(signal.SIGTERM)
        for index in range(2):
            await parent.wait_for_output(f"stop {index} 1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_worker_that_does_not_listen_yet_is_stopped_by_the_signal_and_that_is_no_error(
    number: signal.Signals,
) -> None:
    async with supervised(DYING.replace("not deaths", "False")) as parent:
        for index in range(2):
            await parent.wait_for_output(f"up {index} alone deaf")
        assert await parent.stop(number) == 0


@pytest.mark.parametrize("soon", [10.0, 0.0])
async def test_a_worker_that_dies_is_replaced_after_a_pause_if_it_had_just_begun(soon: float) -> None:
    async with supervised(f"supervisor.SOON = {soon}\n{DYING}") as parent:
        await parent.wait_for_output("up 1[^!]*up 1")
        assert ("died 1 5\npause 1.0\n" in parent.output) == (soon > 0)
        assert ("pause" in parent.output) == (soon > 0)
        assert parent.output.count("up 0") == 1
        assert await parent.stop() == 0


async def test_a_stop_while_a_replacement_waits_starts_none() -> None:
    stopping = "def pause(seconds):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    async with supervised(stopping + DYING) as parent:
        assert await parent.ended() == 0
        assert parent.output.count("up 1") == 1


async def test_a_worker_that_cannot_listen_ends_all_with_its_status_and_is_not_replaced() -> None:
    cannot = "return supervisor.CANNOT_LISTEN"
    async with supervised(DYING.replace("return 5", cannot)) as parent:
        assert await parent.ended() == 3
        assert "died" not in parent.output
