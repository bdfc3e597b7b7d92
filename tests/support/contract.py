"""Helpers of the contract suite: an engine's address, one run with its subscriptions, refused calls."""

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
from tests.support.waiting import until

STEP, RUN = dispatcher_pb2.RESOURCE_TYPE_STEP_RUN, dispatcher_pb2.RESOURCE_TYPE_WORKFLOW_RUN
BOUND = 0.25  # a subscription opened so long after the trigger is bound at once
LISTENING = 0.3  # seconds: nothing says when a real engine has bound a new subscription; this is long enough
LASTING = 0.3  # seconds: a state that says done for so long is not the false one between a replay's steps
PATIENCE = 25.0
OVER = ("COMPLETED", "FAILED", "CANCELLED")
NOBODY = "11111111-1111-4111-8111-111111111111"


def place(env: dict[str, str]) -> Endpoint:
    return endpoint(HatchetConfig(token=SecretStr(env["HATCHET_CLIENT_TOKEN"])), env)


@dataclass
class Received:
    """The events of one subscription, each with its seconds since the trigger, and how it ended."""

    events: list[tuple[float, dispatcher_pb2.WorkflowEvent]] = field(default_factory=list)
    ended: tuple[float, str, str] | None = None

    def of_kind(self, resource: int, kind: str) -> list[tuple[float, dispatcher_pb2.WorkflowEvent]]:
        number = dispatcher_pb2.ResourceEventType.Value(f"RESOURCE_EVENT_TYPE_{kind}")
        return [(t, e) for t, e in self.events if (e.resource_type, e.event_type) == (resource, number)]

    def chunks(self) -> list[tuple[float, str]]:
        return [(t, e.event_payload) for t, e in self.of_kind(STEP, "STREAM")]

    def ends(self) -> set[str]:
        """The ids of the steps whose COMPLETED has come."""
        return {event.resource_id for _, event in self.of_kind(STEP, "COMPLETED")}

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
        indexes = [e.event_index for _, e in self.of_kind(STEP, "STREAM")]
        return indexes == list(range(indexes[0], indexes[0] + len(indexes)))


class Trial:
    """One run and its subscriptions."""

    def __init__(self, client: Client, run_id: str, key: str) -> None:
        self.client, self.run_id, self.pair = client, run_id, ("contract", key)
        self.begun = time.monotonic()
        self.tasks: list[asyncio.Task[None]] = []

    def now(self) -> float:
        return time.monotonic() - self.begun

    async def at(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds - self.now()))

    def listen(self, run_id: str | None = None, pair: tuple[str, str] | None = None) -> Received:
        received = Received()
        self.tasks.append(asyncio.create_task(self._listen(received, run_id, pair)))
        return received

    def follow(self) -> Received:
        """Subscribe by run id, and again at once if the stream ends before the run (a false end)."""
        received = Received()
        self.tasks.append(asyncio.create_task(self._follow(received)))
        return received

    def follow_pair(self) -> Received:
        """Subscribe by the run's metadata pair, and again at once where the stream ends, until `close`."""
        received = Received()
        self.tasks.append(asyncio.create_task(self._follow_pair(received)))
        return received

    async def _follow_pair(self, received: Received) -> None:
        while True:
            await self._listen(Received(received.events), None, self.pair)

    async def _follow(self, received: Received) -> None:
        while True:
            one = Received(received.events)
            await self._listen(one, self.run_id, None)
            if (await self.state()).done:
                received.ended = one.ended
                return

    async def _listen(self, received: Received, run_id: str | None, pair: tuple[str, str] | None) -> None:
        try:
            async for event in self.client.subscribe(run_id, pair):
                received.events.append((self.now(), event))
            received.ended = (self.now(), "OK", "")
        except grpc.aio.AioRpcError as error:
            received.ended = (self.now(), error.code().name, error.details() or "")

    async def until(
        self, true: Callable[[], bool] | Callable[[], Awaitable[bool]], within: float = PATIENCE
    ) -> None:
        await until(true, within=within, every=0.02)

    async def state(self) -> workflows_pb2.GetRunDetailsResponse:
        return await self.client.details(self.run_id)

    async def done(self) -> workflows_pb2.GetRunDetailsResponse:
        """The state, once it has said done for LASTING: during a replay it says so for a moment."""

        async def lasting() -> bool:
            if not await is_done(self.client, self.run_id):
                return False
            await asyncio.sleep(LASTING)
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


async def is_done(client: Client, run_id: str) -> bool:
    """Whether the core state says done; a busy engine knows a run some time after its trigger only."""
    try:
        return (await client.details(run_id)).done
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return False


Begin = Callable[..., Awaitable[tuple[Trial, Received]]]
Status = workflows_pb2.RunStatus


def statuses(state: workflows_pb2.GetRunDetailsResponse) -> dict[str, str]:
    return {name: Status.Name(step.status) for name, step in state.task_runs.items()}


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code().name


TRIES = 12  # runs, of which one at least must show what a real engine does only now and then


async def now_and_then(shows: Callable[[], Awaitable[bool]]) -> bool:
    """Whether one run of TRIES shows it."""
    for _ in range(TRIES):
        if await shows():
            return True
    return False
