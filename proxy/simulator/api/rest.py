"""The REST API: the history of a run, the list of runs, cancel, replay, trigger.

Statuses are the real engine's: an unknown run is 404 for every caller; a wrong token is 403, and so is none.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from proxy.simulator.api.grpc import runs_of
from proxy.simulator.api.rest_views import list_answer, run_answer
from proxy.simulator.api.workflow_views import version_answer, workflows_answer
from proxy.simulator.gate import Gate
from proxy.simulator.recordings.replayer import RecordedRun
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core, UnknownWorkflow
from proxy.simulator.state.tenant import Tenant

STABLE = "/api/v1/stable"


class RestApi:
    """The REST handlers of an engine."""

    def __init__(self, core: Core, gate: Gate) -> None:
        self._core, self._gate = core, gate
        self.away = False

    def routes(self) -> list[web.RouteDef]:
        """What the API answers."""
        tenant = f"{STABLE}/tenants/{{tenant}}"
        return [
            web.get(f"{STABLE}/workflow-runs/{{run}}", self._run),
            web.get(f"{STABLE}/workflow-runs/{{run}}/status", self._status),
            web.get(f"{tenant}/workflow-runs", self._list),
            web.get("/api/v1/tenants/{tenant}/workflows", self._workflows),
            web.get("/api/v1/workflows/{workflow}/versions", self._version),
            web.post(f"{tenant}/workflow-runs/trigger", self._trigger),
            web.post(f"{tenant}/tasks/cancel", self._cancel),
            web.post(f"{tenant}/tasks/replay", self._replay),
        ]

    async def _enter(self, request: web.Request, name: str) -> None:
        self._gate.count(name)
        await self._gate.wait_until_answering()
        if self.away:
            raise _problem(web.HTTPServiceUnavailable, "unavailable")

    async def _run(self, request: web.Request) -> web.Response:
        await self._enter(request, "history")
        return web.json_response(self._answer(self._known_run(request)))

    async def _status(self, request: web.Request) -> web.Response:
        await self._enter(request, "status")
        return web.json_response(self._known_run(request).history_status)

    def _answer(self, run: Run | RecordedRun) -> Any:
        return run.answer() if isinstance(run, RecordedRun) else run_answer(run, self._core.scheduler.now())

    def _known_run(self, request: web.Request) -> Run | RecordedRun:
        try:
            run_id = str(uuid.UUID(request.match_info["run"]))
        except ValueError:
            raise _problem(web.HTTPBadRequest, "invalid workflow run id") from None
        now = self._core.scheduler.now()
        found = (tenant.runs.get(run_id) or tenant.recorded.get(run_id) for tenant in self._core.tenants)
        run = next((one for one in found if one is not None and one.is_visible(now)), None)
        if run is None:
            raise _problem(web.HTTPNotFound, "not found")
        tenant = self._gate.tenant(request.headers.get("Authorization"))
        if tenant is None or tenant.id != run.tenant_id:
            raise _problem(web.HTTPForbidden, "Please provide valid credentials")
        return run

    def _tenant(self, request: web.Request) -> Tenant:
        mine = self._gate.tenant(request.headers.get("Authorization"))
        if not any(one.id == request.match_info["tenant"] for one in self._core.tenants):
            raise _problem(web.HTTPNotFound, "not found")
        if mine is None or mine.id != request.match_info["tenant"]:
            raise _problem(web.HTTPForbidden, "Please provide valid credentials")
        return mine

    async def _list(self, request: web.Request) -> web.Response:
        await self._enter(request, "list")
        tenant = self._tenant(request)
        query = request.query
        pairs = [tuple(one.split(":", 1)) for one in query.getall("additional_metadata", [])]
        since, parent = _time(query.get("since")), query.get("parent_task_external_id")
        runs = [
            run
            for run in reversed(tenant.runs.values())
            if run.created_at >= since and _carries(run, pairs) and parent in {None, run.parent_step_run_id}
        ]
        offset, limit = int(query.get("offset", "0")), int(query.get("limit", "50"))
        return web.json_response(list_answer(runs, self._core.scheduler.now(), offset, limit))

    async def _workflows(self, request: web.Request) -> web.Response:
        await self._enter(request, "workflows")
        tenant = self._tenant(request)
        return web.json_response(
            workflows_answer(tenant.id, self._core.script, request.query.get("name", ""))
        )

    async def _version(self, request: web.Request) -> web.Response:
        await self._enter(request, "version")
        asked = request.match_info["workflow"]
        mine = self._gate.tenant(request.headers.get("Authorization"))
        for tenant in self._core.tenants:
            answer = version_answer(tenant.id, self._core.script, asked)
            if answer is not None and mine is not tenant:
                raise _problem(web.HTTPForbidden, "Please provide valid credentials")
            if answer is not None:
                return web.json_response(answer)
        raise _problem(web.HTTPNotFound, "not found")

    async def _cancel(self, request: web.Request) -> web.Response:
        await self._enter(request, "cancel")
        tenant = self._tenant(request)
        ids = _ids(await request.json())
        for run in runs_of(tenant, ids):
            self._core.cancel(run)
        return web.json_response({"ids": ids})

    async def _replay(self, request: web.Request) -> web.Response:
        await self._enter(request, "replay")
        runs = runs_of(self._tenant(request), _ids(await request.json()))
        for run in runs:
            self._core.replay(run)
        return web.json_response({"ids": [step.id for run in runs for step in run.steps.values()]})

    async def _trigger(self, request: web.Request) -> web.Response:
        await self._enter(request, "trigger")
        tenant = self._tenant(request)
        wanted = await request.json()
        try:
            metadata = wanted.get("additionalMetadata")
            run = self._core.trigger(tenant, str(wanted.get("workflowName")), wanted.get("input"), metadata)
        except UnknownWorkflow:
            raise _problem(web.HTTPInternalServerError, "Internal Server Error") from None
        return web.json_response(self._answer(run))


def _problem(status: type[web.HTTPException], message: str) -> web.HTTPException:
    return status(text=f'{{"message":"{message}"}}\n', content_type="application/json")


def _ids(wanted: Mapping[str, Any]) -> list[str]:
    return [str(id) for id in wanted.get("externalIds") or ()]


def _carries(run: Run, pairs: list[tuple[str, ...]]) -> bool:
    return all(len(pair) == 2 and str(run.metadata.get(pair[0])) == pair[1] for pair in pairs)


def _time(text: str | None) -> float:
    if not text:
        return 0.0
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
