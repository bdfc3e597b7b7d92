"""Counters and health of all workers as one, for probes and metrics.

A counter never decreases when a worker ends: what that worker had counted is kept.
For a worker that does not answer in time, its last answer counts.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from proxy.observability.counters import Counters
from proxy.observability.health import Health, together
from proxy.server.workers.mesh import Mesh
from proxy.teams.hub import Hub

VITALS: Final = b"vitals"


class Vitals(Struct, frozen=True):
    """The numbers and the health of one process, or of several together."""

    process: int
    counters: Counters
    health: Health


class VitalsReader(Protocol):
    """Reads vitals."""

    async def read(self) -> Vitals:
        """The vitals now."""


class OwnVitals:
    """Those of this process alone."""

    def __init__(self, hub: Hub, process: int) -> None:
        self._hub = hub
        self._process = process

    def now(self) -> Vitals:
        return Vitals(self._process, self._hub.counters, self._hub.health())

    async def read(self) -> Vitals:
        return self.now()

    def encode(self) -> bytes:
        """For another worker. Both are this program, so pickle is safe: no one else has the socket."""
        return pickle.dumps(self.now())


class AllVitals:
    """Those of all workers together."""

    def __init__(self, own: OwnVitals, mesh: Mesh) -> None:
        self._own = own
        self._mesh = mesh
        self._last: dict[int, Vitals] = {}
        self._ended = Counters()  # the counts of workers that have ended

    async def read(self) -> Vitals:
        others = [worker for worker in range(self._mesh.workers) if worker != self._mesh.index]
        answers = await asyncio.gather(*(self._mesh.ask(worker, VITALS) for worker in others))
        for worker, answer in zip(others, answers, strict=True):
            if answer is not None:
                self._learn(worker, pickle.loads(answer))
        own = self._own.now()
        known = [own, *self._last.values()]
        silent = self._mesh.workers - 1 - sum(answer is not None for answer in answers)
        counters = Counters.sum([self._ended, *(each.counters for each in known)])
        health = together([each.health for each in known])
        return Vitals(
            own.process, counters, replace(health, workers=self._mesh.workers, silent_workers=silent)
        )

    def _learn(self, worker: int, vitals: Vitals) -> None:
        before = self._last.get(worker)
        if before is not None and before.process != vitals.process:
            self._ended = Counters.sum([self._ended, before.counters.lasting()])
        self._last[worker] = vitals
