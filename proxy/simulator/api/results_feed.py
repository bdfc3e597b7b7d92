"""ResultsFeed: the results of runs for SubscribeToWorkflowRuns (hatchet-sdk's `aio_result`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core
from proxy.simulator.state.tenant import Tenant
from proxy.simulator.stubs import dispatcher_pb2

LOOK_AFTER = 1.0  # seconds, for a run that was done before its id came: the engine polls each second


class ResultsFeed:
    """The runs that one client waits for: ids come in, each run goes out once, when it is done."""

    def __init__(self, core: Core, tenant: Tenant) -> None:
        self._core, self._tenant = core, tenant
        self._asked: set[str] = set()
        self._done: asyncio.Queue[Run | None] = asyncio.Queue()

    async def done_runs(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Run]:
        """Yield each run when it is done, until the client ends its side."""
        self._core.on_done.append(self._on_done)
        asking = asyncio.create_task(self._ask(requests))
        try:
            while (run := await self._done.get()) is not None:
                yield run
        finally:
            self._core.on_done.remove(self._on_done)
            asking.cancel()

    async def _ask(self, requests: AsyncIterator[bytes]) -> None:
        try:
            async for raw in requests:
                run_id = dispatcher_pb2.SubscribeToWorkflowRunsRequest.FromString(raw).workflow_run_id.lower()
                self._asked.add(run_id)
                self._core.scheduler.after(LOOK_AFTER, self._look, run_id)
        finally:
            self._done.put_nowait(None)

    def _look(self, run_id: str) -> None:
        run = self._tenant.runs.get(run_id)
        if run is not None and run.done:
            self._on_done(run)

    def _on_done(self, run: Run) -> None:
        if run.id in self._asked and run.tenant_id == self._tenant.id:
            self._asked.discard(run.id)
            self._done.put_nowait(run)
