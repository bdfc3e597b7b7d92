"""Probes, metrics and tickets: everything that is no stream, as a Starlette application."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.access.admission import TICKETS_LIMIT
from proxy.access.authenticator import Identity, KeysUnavailable, RequestHead, Unauthenticated
from proxy.access.errors import MAX_REQUEST, BadTicketRequest, TicketRequest
from proxy.access.origins import TICKET_METHODS
from proxy.core.observations import CoreState
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.log.cursor import run_id_of
from proxy.observability import health
from proxy.observability.prometheus import render
from proxy.server.http.client_request import LEGAL_VALUE, allow_root, is_legal_value
from proxy.server.http.responses import HttpResponse, problem
from proxy.server.http.routing import PROBES
from proxy.server.workers.vitals import VitalsReader
from proxy.streams.stream import LiveStream
from proxy.teams.hub import SINGLE, Hub
from proxy.teams.team import Team

if TYPE_CHECKING:
    from proxy.console.routes import Console

RETRY_AFTER: Final = (b"retry-after", b"5")
LOGGED_AS: Final = "(tickets)"
"""The stream in the log lines of refused requests for tickets."""
BODY_SECONDS: Final = 10.0
"""For the body of a request for a ticket, where the server below has no limit of its own."""
MAX_PENDING: Final = 100
"""Requests of a team that may wait for their run, each for `wait_for_run`: no other limit counts them."""


def admin_app(hub: Hub, vitals: VitalsReader, console: Console) -> Starlette:
    """Probes, metrics and the console, for a port of their own."""
    return _application([*_probes(hub, vitals), *console.routes()])


def endpoints_app(hub: Hub, vitals: VitalsReader, *, probes_too: bool = True) -> Starlette:
    """Everything but the streams; `probes_too` is False where the probes have a port of their own."""
    tickets = TicketEndpoint(hub)
    routes = [
        Route("/tickets", tickets, methods=["POST", "OPTIONS"]),
        Route("/{team}/tickets", tickets, methods=["POST", "OPTIONS"]),
    ]
    if probes_too:
        routes = [*_probes(hub, vitals), *routes]
    return _application(routes)


def _application(routes: list[Route]) -> Starlette:
    app = Starlette(routes=routes, exception_handlers={HTTPException: _as_problem, Exception: _as_error})
    app.router.redirect_slashes = False  # the redirect would go to whatever the client wrote into Host
    return app


def _probes(hub: Hub, vitals: VitalsReader) -> list[Route]:
    async def healthz(request: Request) -> Response:
        return _probe(health.healthz(hub.health(), time.time()))

    async def readyz(request: Request) -> Response:
        strict = request.query_params.get("strict", "false").lower() not in ("false", "0", "no")
        team = request.query_params.get("team")
        now = (await vitals.read()).health
        return _probe(health.readyz(now, time.time(), strict=strict, team=team))

    async def metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        now = await vitals.read()
        # in a thread: a scrape of two hundred streams takes some 50 ms, which would delay every stream
        body, kind = await asyncio.to_thread(render, now.counters, now.health, accept=accept)
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})

    return [Route(path, probe) for path, probe in zip(PROBES, (healthz, readyz, metrics), strict=True)]


def _probe(answer: health.Answer) -> Response:
    body = orjson.dumps(answer.body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(body, answer.status, headers)


async def _as_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {404: "there is no such stream", 405: "this path does not accept that method"}
    headers = [(name.encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return _respond(problem(error.status_code, details.get(error.status_code, error.detail), headers=headers))


async def _as_error(request: Request, error: Exception) -> Response:
    return _respond(problem(500, "the request could not be answered"))


def _respond(answer: HttpResponse) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = list(answer.headers)
    if answer.status == 204:
        return response
    if not any(name == b"content-length" for name, _ in answer.headers):
        response.raw_headers.append((b"content-length", b"%d" % len(answer.body)))
    return response


class TicketEndpoint:
    """``POST /{team}/tickets``: issues a ticket for a token that the stream's `allow` accepts."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._pending: Counter[str] = Counter()  # requests that wait for their run, by team

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        named = "team" in request.path_params
        name = str(request.path_params.get("team", SINGLE))
        team = None if self.hub.single == named else self.hub.teams.get(name)
        answer = await self._answer(team, request)
        if team is not None and answer.status >= HTTPStatus.BAD_REQUEST:
            self._count_refusal(team, answer)
        await _respond(answer)(scope, receive, send)

    def _count_refusal(self, team: Team, answer: HttpResponse) -> None:
        reason, limit = str(answer.status), answer.limit or None
        team.counters.refusals[reason] += 1
        if limit is not None:
            team.limits.count_refusal(limit, time.time())
        self.hub.event_log.refused(team.name, LOGGED_AS, reason, why=answer.detail, limit=limit)

    async def _answer(self, team: Team | None, request: Request) -> HttpResponse:
        head = RequestHead.read(request.scope["headers"], request.scope.get("query_string", b""))
        scheme = str(request.scope.get("scheme", "http"))
        if team is None or (not team.authenticator.issues_tickets and request.method != "OPTIONS"):
            return problem(404, "no tickets are issued at this path")
        if request.method == "OPTIONS":
            verdict = team.origins.preflight(head.headers, scheme, TICKET_METHODS)
            if verdict.refused is None:
                return HttpResponse(204, list(verdict.headers))
            return problem(403, verdict.refused, headers=verdict.headers)
        verdict = team.origins.decide(head.headers, scheme)
        if verdict.refused is not None:
            return problem(403, verdict.refused, headers=verdict.headers)
        try:
            ticket_request = TicketRequest.read(await _body(request))
        except BadTicketRequest as error:
            return problem(400, str(error), headers=verdict.headers)
        except (TimeoutError, ClientDisconnect):
            return problem(408, "the request for a ticket was not complete in time", headers=verdict.headers)
        stream = team.streams.get(ticket_request.stream)
        if stream is not None:  # a page that may read one stream must not get tickets for another
            verdict = stream.origins.decide(head.headers, scheme)
            if verdict.refused is not None:
                return problem(403, verdict.refused, headers=verdict.headers)
        answer = await self._mint(team, stream, ticket_request, head)
        return replace(answer, headers=answer.headers + list(verdict.headers))

    async def _mint(
        self, team: Team, stream: LiveStream | None, ticket_request: TicketRequest, head: RequestHead
    ) -> HttpResponse:
        try:
            by_metadata = stream is not None and stream.config.metadata_key is not None
            run = ticket_request.run if by_metadata else run_id_of(ticket_request.run)
            identity = await team.authenticator.authenticate(
                head, stream=ticket_request.stream, run=run or ticket_request.run, tickets=False
            )
            if stream is None:
                return problem(404, "there is no such stream")
            if run is None:
                return problem(400, "`run` is not a UUID")
            if by_metadata and not is_legal_value(run):
                return problem(400, f"`run` {LEGAL_VALUE}")
            refused = team.limits.admit_request(time.monotonic())
            if refused is not None or self._pending[team.name] >= MAX_PENDING:
                which = refused.which if refused is not None else TICKETS_LIMIT
                message = f"the limit {which} of this team is reached; try again later"
                return replace(problem(429, message, headers=[RETRY_AFTER]), limit=which)
            if not await self._allowed(team, stream, identity, head, run):
                return problem(403, "the rules of this stream do not allow you this run")
            ticket, expires_at = team.authenticator.mint(identity, stream=ticket_request.stream, run=run)
        except Unauthenticated as error:
            return problem(401, error.reason, headers=[(b"www-authenticate", error.challenge.encode())])
        except RunUnknown:
            return problem(404, "there is no such run")
        except KeysUnavailable as error:
            return problem(503, f"{error}; try again later", headers=[RETRY_AFTER])
        except HatchetError as error:
            self.hub.event_log.trouble(team.name, error)
            return problem(
                503, "Hatchet cannot be asked at the moment; try again later", headers=[RETRY_AFTER]
            )
        body = orjson.dumps({"ticket": ticket, "expires_at": _moment(expires_at)})
        return HttpResponse(
            201, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")], body
        )

    async def _allowed(
        self, team: Team, stream: LiveStream, identity: Identity, head: RequestHead, run: str
    ) -> bool:
        if stream.allow is None:
            return True  # so a ticket can be had before its run exists
        self._pending[team.name] += 1
        try:
            state = await self._state(team, stream, run)
            return stream.allow.permits(allow_root(identity, state, head))
        finally:
            self._pending[team.name] -= 1

    async def _state(self, team: Team, stream: LiveStream, run: str) -> CoreState:
        run_id = run
        if stream.config.metadata_key is not None:
            wanted, patience = stream.config.workflow, stream.config.wait_for_run
            run_id = (await team.find(stream.config.metadata_key, run, patience, wanted)).run_id
        session = await team.runs.lease(run_id, resumes=True)
        try:
            return await session.first_state(stream.config.wait_for_run)
        finally:
            team.runs.release(session)


async def _body(request: Request) -> bytes:
    body = b""
    async with asyncio.timeout(BODY_SECONDS):
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_REQUEST:
                break
    return body


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
