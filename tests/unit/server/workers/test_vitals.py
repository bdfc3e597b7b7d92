"""Counters and health of all workers as one: no counter goes back, whoever dies or is silent."""

from __future__ import annotations

import pickle
from typing import Any, cast

import pytest

from proxy.observability.counters import Counters
from proxy.observability.health import Health
from proxy.server.workers.mesh import Mesh
from proxy.server.workers.vitals import VITALS, AllVitals, OwnVitals, Vitals


class Process:
    """A process and what it has counted; as a hub, it is the one that reads."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.counters = Counters()

    def health(self) -> Health:
        return Health(started=float(self.number), version="1")

    def count(self, events: int, clients: int = 0) -> None:
        team = self.counters.team("a")
        team.events += events
        team.stream("s").clients += clients


class FakeMesh:
    """The other workers: each a process, or None while it is silent."""

    def __init__(self, *others: Process) -> None:
        self.index = 1
        self.others: dict[int, Process | None] = dict(zip((0, 2), others, strict=True))
        self.workers = 1 + len(self.others)

    async def ask(self, worker: int, question: bytes) -> bytes | None:
        assert question == VITALS
        process = self.others[worker]
        if process is None:
            return None
        return pickle.dumps(Vitals(process.number, process.counters, process.health()))


class Setup:
    def __init__(self) -> None:
        self.own, self.first, self.second = Process(10), Process(11), Process(12)
        self.mesh = FakeMesh(self.first, self.second)
        own = OwnVitals(cast(Any, self.own), self.own.number)
        self.vitals = AllVitals(own, cast(Mesh, self.mesh))

    async def read(self) -> tuple[int, int, int]:
        """All events, all clients, and how many workers are silent."""
        found = await self.vitals.read()
        assert (found.process, found.health.workers) == (10, 3)
        team = found.counters.team("a")
        return team.events, team.stream("s").clients, found.health.silent_workers


@pytest.fixture
def setup() -> Setup:
    one = Setup()
    for each, process in enumerate((one.own, one.first, one.second)):
        process.count(10**each, 1)
    return one


async def test_everything_that_the_workers_counted_is_added(setup: Setup) -> None:
    assert await setup.read() == (111, 3, 0)
    setup.first.count(20)
    assert await setup.read() == (131, 3, 0), "each worker's newest numbers, once"


async def test_a_silent_worker_counts_with_what_it_said_last_and_is_reported(setup: Setup) -> None:
    await setup.read()
    setup.mesh.others[0] = None
    assert await setup.read() == (111, 3, 1)
    setup.mesh.others[2] = None
    assert await setup.read() == (111, 3, 2)
    setup.mesh.others[0] = setup.first
    assert await setup.read() == (111, 3, 1)


async def test_what_a_worker_counted_stays_when_another_process_replaces_it_and_its_clients_go(
    setup: Setup,
) -> None:
    await setup.read()
    for number in (21, 31):  # it dies twice
        replacement = Process(number)
        replacement.count(5, 1)
        setup.mesh.others[2] = replacement
        for _ in range(2):
            assert await setup.read() == (111 + (5 if number == 21 else 10), 3, 0)
