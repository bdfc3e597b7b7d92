"""What the contract suite and its like need of an engine: where it is, who listens to it, what it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from pydantic import SecretStr

from config.model.files import HatchetConfig
from proxy.hatchet.endpoint import Endpoint, endpoint
from proxy.hatchet.protobuf import dispatcher_pb2, workflows_pb2
from proxy.simulator.recordings.client import Client

STEP, RUN = dispatcher_pb2.RESOURCE_TYPE_STEP_RUN, dispatcher_pb2.RESOURCE_TYPE_WORKFLOW_RUN
BOUND = 0.25  # a subscription opened so long after the trigger is bound at once
PATIENCE = 25.0
OVER = ("COMPLETED", "FAILED", "CANCELLED")
NOBODY = "11111111-1111-4111-8111-111111111111"


def place(env: dict[str, str]) -> Endpoint:
    return endpoint(HatchetConfig(token=SecretStr(env["HATCHET_CLIENT_TOKEN"])), env)


@dataclass
class Heard:
    """What one subscription heard, and when, in seconds since the trigger."""

    events: list[tuple[float, dispatcher_pb2.WorkflowEvent]] = field(default_factory=list)
    ended: tuple[float, str, str] | None = None

    def said(self, resource: int, kind: str) -> list[tuple[float, dispatcher_pb2.WorkflowEvent]]:
        number = dispatcher_pb2.ResourceEventType.Value(f"RESOURCE_EVENT_TYPE_{kind}")
        return [(t, e) for t, e in self.events if (e.resource_type, e.event_type) == (resource, number)]

    def chunks(self) -> list[tuple[float, str]]:
        return [(t, e.event_payload) for t, e in self.said(STEP, "STREAM")]

    def ends(self) -> set[str]:
        """The ids of the steps whose COMPLETED has come."""
        return {event.resource_id for _, event in self.said(STEP, "COMPLETED")}

    def has_chunk_after_its_end(self) -> bool:
        """Whether a chunk of a step came after the step's COMPLETED."""
        ended: set[str] = set()
        for _, event in self.events:
            if (
                event.resource_type == STEP
                and event.event_type == dispatcher_pb2.RESOURCE_EVENT_TYPE_COMPLETED
            ):
                ended.add(event.resource_id)
            elif event.HasField("event_index") and event.resource_id in ended:
                return True
        return False

    def gap_free(self) -> bool:
        indexes = [e.event_index for _, e in self.said(STEP, "STREAM")]
        return indexes == list(range(indexes[0], indexes[0] + len(indexes)))


class Trial:
    """One run, listened to."""

    def __init__(self, client: Client, run_id: str, key: str) -> None:
        self.client, self.run_id, self.pair = client, run_id, ("contract", key)
        self.begun = time.monotonic()
        self.tasks: list[asyncio.Task[None]] = []

    def now(self) -> float:
        return time.monotonic() - self.begun

    async def at(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds - self.now()))

    def listen(self, run_id: str | None = None, pair: tuple[str, str] | None = None) -> Heard:
        heard = Heard()
        self.tasks.append(asyncio.create_task(self._listen(heard, run_id, pair)))
        return heard

    def follow(self) -> Heard:
        """By run id, opened again at once wherever it ended before the run did: past a false end."""
        heard = Heard()
        self.tasks.append(asyncio.create_task(self._follow(heard)))
        return heard

    def follow_pair(self) -> Heard:
        """By the run's metadata pair, opened again at once wherever it ended, until the trial is closed."""
        heard = Heard()
        self.tasks.append(asyncio.create_task(self._follow_pair(heard)))
        return heard

    async def _follow_pair(self, heard: Heard) -> None:
        while True:
            await self._listen(Heard(heard.events), None, self.pair)

    async def _follow(self, heard: Heard) -> None:
        while True:
            one = Heard(heard.events)
            await self._listen(one, self.run_id, None)
            if (await self.state()).done:
                heard.ended = one.ended
                return

    async def _listen(self, heard: Heard, run_id: str | None, pair: tuple[str, str] | None) -> None:
        try:
            async for event in self.client.subscribe(run_id, pair):
                heard.events.append((self.now(), event))
            heard.ended = (self.now(), "OK", "")
        except grpc.aio.AioRpcError as error:
            heard.ended = (self.now(), error.code().name, error.details() or "")

    async def until(
        self, true: Callable[[], bool] | Callable[[], Awaitable[bool]], within: float = PATIENCE
    ) -> None:
        async with asyncio.timeout(within):
            while True:
                answer = true()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.02)

    async def state(self) -> workflows_pb2.GetRunDetailsResponse:
        return await self.client.details(self.run_id)

    async def done(self) -> workflows_pb2.GetRunDetailsResponse:
        """The state once it says done, and does so for 0.3 s."""

        async def lasting() -> bool:
            if not (await self.state()).done:
                return False
            await asyncio.sleep(0.3)
            return (await self.state()).done

        await self.until(lasting)
        return await self.state()

    async def history(self) -> Any:
        status, answer = await self.client.history(self.run_id)
        return answer if status == 200 else None

    async def finished_history(self) -> Any:
        """The history once it says that the run is over: on a busy engine some time after the core does."""

        async def over() -> bool:
            return ((await self.history()) or {}).get("run", {}).get("status") in OVER

        await self.until(over)
        return await self.history()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


Begin = Callable[..., Awaitable[tuple[Trial, Heard]]]
Status = workflows_pb2.RunStatus


def statuses(state: workflows_pb2.GetRunDetailsResponse) -> dict[str, str]:
    return {name: Status.Name(step.status) for name, step in state.task_runs.items()}


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code().name


TRIES = 12  # runs of which at least one must show what a real engine does only now and then


async def now_and_then(shows: Callable[[], Awaitable[bool]]) -> bool:
    """Whether one run of a few shows it."""
    for _ in range(TRIES):
        if await shows():
            return True
    return False
