"""The control port: triggers, cancels and replays runs, and makes faults.

JSON, without a token: it listens on loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.simulator.quirks import facts
from proxy.simulator.state.runs import UnknownWorkflow

if TYPE_CHECKING:
    from proxy.simulator.engine import Engine

Action = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class InvalidRequest(Exception):
    """A control request that cannot be carried out; the text says why."""


class ControlApi:
    """The acts of the control port, for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.acts: dict[str, Action] = {
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
        """POST /control/ACT, and GET /control for an overview."""
        return [web.get("/control", self._overview), web.post("/control/{act}", self._do)]

    async def _overview(self, request: web.Request) -> web.Response:
        engine = self._engine
        return web.json_response(
            {
                "acts": sorted(self.acts),
                "calls": dict(engine.calls),
                "quirks": {name: getattr(engine.quirks, name.replace("-", "_")) for name, _, _ in facts()},
                "runs": [_summary(run) for tenant in engine.core.tenants for run in tenant.runs.values()][
                    -100:
                ],
                "streams": engine.streams,
                "workflows": sorted(engine.core.script.workflows),
            }
        )

    async def _do(self, request: web.Request) -> web.Response:
        act = self.acts.get(request.match_info["act"])
        if act is None:
            return _error(
                f"there is no act '{request.match_info['act']}': {', '.join(sorted(self.acts))}", 404
            )
        try:
            raw = await request.read()
            body = json.loads(raw) if raw else {}
            if not isinstance(body, dict):
                raise InvalidRequest("the body must be a JSON object")
            return web.json_response(await act(body))
        except (InvalidRequest, ValueError) as invalid:
            return _error(str(invalid) or "the body must be a JSON object", 400)
        except KeyError as missing:
            return _error(f"missing or unknown: {missing}", 400)

    async def _trigger(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        known = self._engine.core.script.workflows
        workflow = str(body.get("workflow") or next(iter(known)))
        try:
            run_id = await self._engine.trigger(
                workflow, body.get("input"), body.get("metadata"), tenant=int(body.get("tenant", 0))
            )
        except UnknownWorkflow:
            raise InvalidRequest(f"there is no workflow '{workflow}': {', '.join(sorted(known))}") from None
        return {"run_id": run_id}

    async def _cancel(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._engine.cancel(str(body["run_id"]))
        return {}

    async def _replay(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._engine.replay(str(body["run_id"]))
        return {}

    async def _chunk(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.put(str(body["run_id"]), str(body["step"]), str(body["text"]), body.get("index"))
        return {}

    async def _quirks(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if not all(isinstance(on, bool) for on in body.values()):
            raise InvalidRequest("a quirk is switched by true or false")
        self._engine.switch(**{str(name): on for name, on in body.items()})
        return {}

    async def _end_streams(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        ended = self._engine.streams
        self._engine.faults.end_streams()
        return {"ended": ended}

    async def _outage(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._engine.faults.outage(_seconds(body))
        return {}

    async def _refuse_tokens(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.refuse_tokens(_on(body))
        return {}

    async def _limit(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.limit_calls(float(body["per_second"]))
        return {}

    async def _history(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.hide_history(not _on(body))
        return {}

    async def _chunk_lag(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.lag_chunks(_seconds(body))
        return {}

    async def _bad_chunk(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sent": self._engine.faults.bad_chunk(body.get("run_id"))}

    async def _silence(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._engine.faults.mute()
        self._engine.faults.later(_seconds(body), lambda: self._engine.faults.mute(False))
        return {}


def _summary(run: Any) -> dict[str, Any]:
    return {"run_id": run.id, "workflow": run.workflow.name, "done": run.done, "status": run.history_status}


def _seconds(body: Mapping[str, Any]) -> float:
    seconds = float(body["seconds"])
    if not 0 <= seconds <= 86_400:
        raise InvalidRequest("seconds must be between 0 and a day's")
    return seconds


def _on(body: Mapping[str, Any]) -> bool:
    return bool(body.get("on", True))


def _error(message: str, status: int) -> web.Response:
    return web.json_response({"message": message}, status=status)
