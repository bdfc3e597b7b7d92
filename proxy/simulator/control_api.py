"""The control port: trigger, cancel, replay, break something now. JSON, without a token: loopback only."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.simulator.quirks import facts
from proxy.simulator.state.runs import UnknownWorkflow

if TYPE_CHECKING:
    from proxy.simulator.engine import Engine

Act = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Wrong(Exception):
    """A control request that cannot be done; the text says why."""


class ControlApi:
    """What may be done to a running engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.acts: dict[str, Act] = {
            "trigger": self._trigger,
            "cancel": self._cancel,
            "replay": self._replay,
            "chunk": self._chunk,
            "quirks": self._quirks,
            "end-streams": self._end_streams,
            "outage": self._outage,
            "refuse-tokens": self._refuse_tokens,
            "limit": self._limit,
            "history": self._history,
            "chunk-lag": self._chunk_lag,
            "bad-chunk": self._bad_chunk,
            "silence": self._silence,
        }

    def routes(self) -> list[web.RouteDef]:
        """POST /control/ACT, and GET /control for what there is."""
        return [web.get("/control", self._overview), web.post("/control/{act}", self._do)]

    async def _overview(self, request: web.Request) -> web.Response:
        engine = self._engine
        return web.json_response(
            {
                "acts": sorted(self.acts),
                "calls": dict(engine.calls),
                "quirks": {name: getattr(engine.quirks, name.replace("-", "_")) for name, _, _ in facts()},
                "runs": [_told(run) for tenant in engine.core.tenants for run in tenant.runs.values()][-100:],
                "streams": engine.streams,
                "workflows": sorted(engine.core.script.workflows),
            }
        )

    async def _do(self, request: web.Request) -> web.Response:
        act = self.acts.get(request.match_info["act"])
        if act is None:
            return _wrong(
                f"there is no act '{request.match_info['act']}': {', '.join(sorted(self.acts))}", 404
            )
        try:
            raw = await request.read()
            told = json.loads(raw) if raw else {}
            if not isinstance(told, dict):
                raise Wrong("the body must be a JSON object")
            return web.json_response(await act(told))
        except (Wrong, ValueError) as wrong:
            return _wrong(str(wrong) or "the body must be a JSON object", 400)
        except KeyError as missing:
            return _wrong(f"missing or unknown: {missing}", 400)

    async def _trigger(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        known = self._engine.core.script.workflows
        workflow = str(told.get("workflow") or next(iter(known)))
        try:
            run_id = await self._engine.trigger(
                workflow, told.get("input"), told.get("metadata"), tenant=int(told.get("tenant", 0))
            )
        except UnknownWorkflow:
            raise Wrong(f"there is no workflow '{workflow}': {', '.join(sorted(known))}") from None
        return {"run_id": run_id}

    async def _cancel(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._engine.cancel(str(told["run_id"]))
        return {}

    async def _replay(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._engine.replay(str(told["run_id"]))
        return {}

    async def _chunk(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.put(str(told["run_id"]), str(told["step"]), str(told["text"]), told.get("index"))
        return {}

    async def _quirks(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        if not all(isinstance(on, bool) for on in told.values()):
            raise Wrong("a quirk is switched by true or false")
        self._engine.switch(**{str(name): on for name, on in told.items()})
        return {}

    async def _end_streams(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        ended = self._engine.streams
        self._engine.faults.end_streams()
        return {"ended": ended}

    async def _outage(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._engine.faults.outage(_seconds(told))
        return {}

    async def _refuse_tokens(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.refuse_tokens(_on(told))
        return {}

    async def _limit(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.limit_calls(float(told["per_second"]))
        return {}

    async def _history(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.hide_history(not _on(told))
        return {}

    async def _chunk_lag(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.lag_chunks(_seconds(told))
        return {}

    async def _bad_chunk(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sent": self._engine.faults.bad_chunk(told.get("run_id"))}

    async def _silence(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.mute()
        self._engine.faults.later(_seconds(told), lambda: self._engine.faults.mute(False))
        return {}


def _told(run: Any) -> dict[str, Any]:
    return {"run_id": run.id, "workflow": run.workflow.name, "done": run.done, "status": run.history_status}


def _seconds(told: Mapping[str, Any]) -> float:
    seconds = float(told["seconds"])
    if not 0 <= seconds <= 86_400:
        raise Wrong("seconds must be between 0 and a day's")
    return seconds


def _on(told: Mapping[str, Any]) -> bool:
    return bool(told.get("on", True))


def _wrong(message: str, status: int) -> web.Response:
    return web.json_response({"message": message}, status=status)
