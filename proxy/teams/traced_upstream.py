"""TracedUpstream: an `Upstream` each call of which has a span; used only where tracing is on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from proxy.core.observations import CoreState, ListedRun, PastState
from proxy.hatchet.upstream import Deliver, Upstream
from proxy.observability.tracing import CallSpan, Tracer
from proxy.teams.monitored_upstream import NO_RUN

TRACE: Final = "traceparent"
"""The key in a run's metadata; a run is also followed by this pair."""


class TracedUpstream:
    """The calls of `client`, with spans for look-ups and subscriptions. Probes have none."""

    def __init__(self, client: Upstream, tracer: Tracer, team: str) -> None:
        self._client = client
        self._tracer = tracer
        self._team = team

    @property
    def has_history(self) -> bool:
        return self._client.has_history

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        about = {"team": self._team, "run_id": run_id}
        with self._tracer.call("hatchet subscribe by run id", about) as span:
            await self._client.follow(run_id, deliver, _noted(span, opened))

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        with self._tracer.call(
            "hatchet subscribe by metadata", {"team": self._team, "metadata_key": key}
        ) as span:
            if key == TRACE:
                span.of_run(value)
            await self._client.follow_metadata(key, value, deliver, _noted(span, opened))

    async def core(self, run_id: str) -> CoreState:
        if run_id == NO_RUN:
            return await self._client.core(run_id)
        about = {"team": self._team, "run_id": run_id}
        with self._tracer.call("hatchet read run state", about) as span:
            state = await self._client.core(run_id)
            span.of_run(state.metadata.get(TRACE))
            return state

    async def past(self, run_id: str) -> PastState | None:
        with self._tracer.call("hatchet read history", {"team": self._team, "run_id": run_id}):
            return await self._client.past(run_id)

    async def find(self, key: str, value: str, workflows: Sequence[str] | None = None) -> str | None:
        with self._tracer.call("hatchet find run", {"team": self._team, "metadata_key": key}):
            return await self._client.find(key, value, workflows)

    async def runs_with(self, key: str, value: str, most: int) -> list[ListedRun]:
        with self._tracer.call("hatchet list runs", {"team": self._team, "metadata_key": key}):
            return await self._client.runs_with(key, value, most)

    async def check_history(self) -> None:
        await self._client.check_history()

    async def keep_open(self, step_run_id: str) -> None:
        await self._client.keep_open(step_run_id)

    async def close(self) -> None:
        await self._client.close()


def _noted(span: CallSpan, opened: Callable[[], None] | None) -> Callable[[], None]:
    """`opened`, which also notes on `span` that the subscription is open."""

    def both() -> None:
        span.opened()
        if opened is not None:
            opened()

    return both
