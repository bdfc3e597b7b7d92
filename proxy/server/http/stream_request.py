"""StreamRequest: one client's request for a stream, from its first check to the session that it becomes.

The checks are made in this order: is the request well formed (400), may this page ask (403), who asks (401),
has the client seen the run's end already (204), is there room (``stream.wait``), does the run exist (404),
may this client see it (403). Nothing is sent before the last check has passed; from then on the session
writes to the sink.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol

from proxy.access.admission import PROCESS_LIMIT, Lease, Refused
from proxy.access.authenticator import ANONYMOUS, Identity, KeysUnavailable, Unauthenticated
from proxy.access.entitlement import Entitlement
from proxy.core.observations import CoreState
from proxy.core.tasks import in_task
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.log.cursor import Cursor, end_cursor, read_cursor, run_id_of
from proxy.observability.tracing import StreamSpan, StreamStart
from proxy.server.http.client_request import LEGAL_VALUE, ClientRequest, allow_root, is_legal_value
from proxy.server.http.document import HEADERS as DOCUMENT_HEADERS
from proxy.server.http.document import JSON, BadDocumentRequest, Collector, DocumentRequest, document_request
from proxy.server.http.requested_run import OtherWorkflow, check_workflow, find_run, reach
from proxy.server.http.responses import (
    Headers,
    HttpResponse,
    draining,
    jittered,
    nothing_to_come,
    problem,
    wait,
)
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.merged.membership import TooManyRuns
from proxy.streams.merged.session import MergedSession
from proxy.streams.run_session import RunSession
from proxy.streams.session import Admitted, Session, SessionSink
from proxy.streams.stream import LiveStream
from proxy.streams.subscriber import Ending
from proxy.teams.hub import Hub
from proxy.teams.team import Team

UNKNOWN_PATIENCE: Final = 0.5
"""Seconds for which a run is waited for with ``unknown: "204"``: the engine shows a new run after 0.1 s."""


class ResponseSink(SessionSink, Protocol):
    """A response that has not begun yet."""

    def begin(self, headers: Headers, body: bytes) -> None:
        """Begin a response with status 200; both may wait for the first write, to go out with it."""

    def flush(self) -> None:
        """Send what still waits."""


class StreamRequest:
    """One request for one stream of one team."""

    def __init__(self, hub: Hub, team: Team, stream: LiveStream, client: ClientRequest) -> None:
        self._hub = hub
        self._team = team
        self._stream = stream
        self._client = client
        self._origin = stream.origins.decide(client.head.headers, client.scheme)
        self.cors: Headers = list(self._origin.headers)
        """For every response to this request."""
        self._began = 0.0  # the loop's time when the run was asked for
        self._session: Session | None = None
        self._document: DocumentRequest | None = None  # None: the client wants a stream
        self._cursor = ""  # the text of the client's cursor
        self._span = None if hub.tracer is None else hub.tracer.stream(self._described())
        self.traced: Final = self._span is not None
        """Whether it has a span; then it must start in a context of its own."""
        # The run as tickets and limits count it: the canonical id, or the value in a metadata path.
        known = stream.metadata_key is not None or client.value in team.runs
        self._run = client.value if known else (run_id_of(client.value) or "")

    def start(self, sink: ResponseSink) -> Coroutine[Any, Any, HttpResponse | None]:
        """Make the checks, then begin the response on `sink` and a session that writes to it.

        Returns None once the session has begun, otherwise the response to send instead. It runs without a
        task until it has to wait (`proxy.core.tasks`); the task must then be added to `Hub.waiting`. If it is
        cancelled because the process drains, it still returns a response. If it is cancelled for any other
        reason (the client has left), it releases everything and raises CancelledError. A client that asks
        for a document gets a response, and `sink` stays unused.
        """
        return self._start(sink) if self._span is None else self._start_traced(sink, self._span)

    async def _start_traced(self, sink: ResponseSink, span: StreamSpan) -> HttpResponse | None:
        """`_start` within the request's span; a session that has begun ends the span itself."""
        span.make_current()
        try:
            response = await self._start(sink)
        except BaseException:
            if self._session is None:
                span.left()
            raise
        if response is not None and self._session is None:
            span.answered(response.status)
        return response

    async def _start(self, sink: ResponseSink) -> HttpResponse | None:
        try:
            response = await self._answer(sink)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._hub.draining:
                raise
            task.uncancel()
            response = draining(self._stream.wire, document=self._document is not None)
        if response is None:
            return None
        if response.status >= 400:
            self._count_refusal(str(response.status), response.detail)
        return HttpResponse(response.status, response.headers + self.cors, response.body)

    async def _answer(self, sink: ResponseSink) -> HttpResponse | None:
        team, config = self._team, self._stream.config
        try:
            self._document = document_request(self._client.head, self._stream.wire)
        except BadDocumentRequest as error:
            return problem(400, str(error))
        refusal = self._check_form()
        if refusal is not None:
            return refusal
        if self._origin.refused is not None:
            return problem(403, self._origin.refused)
        identity = ANONYMOUS
        try:
            if not team.authenticator.open:
                identity = await team.authenticator.authenticate(
                    self._client.head, stream=config.name, run=self._run
                )
        except Unauthenticated as error:
            return problem(401, error.reason, headers=[(b"www-authenticate", error.challenge.encode())])
        except KeysUnavailable as error:
            return self._wait("config", str(error))
        after = "" if self._document is None else self._document.after
        self._cursor = text = after or self._client.cursor
        cursor = read_cursor(text) if text else None
        if cursor is not None and self._is_end(cursor, text):
            return nothing_to_come(self._stream.wire)
        waiting = self._hub.waiting
        if self._hub.is_full(waits=bool(waiting) and asyncio.current_task() in waiting):
            return self._wait(
                "limit", "this proxy holds as many connections as it can; try again later", PROCESS_LIMIT
            )
        lease = team.limits.admit(self._run, identity.subject, time.monotonic())
        if isinstance(lease, Refused):
            return self._wait(
                "limit", f"the limit {lease.which} of this team is reached; try again later", lease.which
            )
        if self._document is None or self._client.head_only:
            return await self._enter(identity, cursor, lease, sink)
        collector = Collector()
        response = await self._enter(identity, cursor, lease, collector)
        if response is not None or self._session is None:
            return response
        if not collector.complete(self._session, self._document.wait):
            await in_task()
            task = asyncio.current_task()
            assert task is not None
            self._hub.waiting.discard(task)  # the client is counted by its session, which a drain ends
        return await collector.response(self._session, self._document.wait)

    async def _enter(
        self, identity: Identity, cursor: Cursor | None, lease: Lease, sink: ResponseSink
    ) -> HttpResponse | None:
        """Begin a session, which owns `lease`; else release `lease` and return the response to send."""
        session: Session | None = None
        if self._stream.depends_on_workflow:
            self._began = asyncio.get_running_loop().time()
        try:
            opened = await self._open(identity, cursor, lease, sink)
            if isinstance(opened, HttpResponse):
                return opened
            session = opened
        except TooManyRuns as refused:
            return self._wait("limit", str(refused), "runs")
        except OtherWorkflow:
            await self._until_patience_ends()
            return self._no_such_run()
        except RunUnknown:
            return self._no_such_run()
        except HatchetError as error:
            self._hub.event_log.trouble(self._team.name, error)
            return self._wait("hatchet", "Hatchet cannot be asked at the moment; try again later")
        finally:
            if session is None:
                lease.release()
        self._session = session
        if isinstance(session.run, MergedSession):
            session.run.guards.add(session, self._permits(identity), partial(session.end, Ending.DROPPED))
        session.start()
        if self._hub.draining:
            self._hub.farewell(session)
        sink.flush()
        return None

    def _no_such_run(self) -> HttpResponse:
        if self._gets_nothing(self._stream.config.unknown):
            return nothing_to_come(self._stream.wire)
        return problem(404, "there is no such run")

    async def _until_patience_ends(self) -> None:
        """Wait as long as for a run that does not exist, so that the time does not reveal that it exists."""
        await asyncio.sleep(max(0.0, self._began + self._patience - asyncio.get_running_loop().time()))

    # -- is it well formed, may this page ask, has it seen the end --

    def _check_form(self) -> HttpResponse | None:
        value = self._client.value
        if self._stream.metadata_key is None:
            if not self._run:
                return problem(400, "the run id in the path is not a UUID")
        elif not is_legal_value(value):
            return problem(400, f"the value in the path {LEGAL_VALUE}")
        return None

    def _is_end(self, cursor: Cursor, text: str) -> bool:
        """Whether the cursor is the one of the end of the run that is asked for."""
        by_metadata = self._stream.metadata_key is not None
        if cursor.place is not None or not (by_metadata or cursor.run_id == self._run):
            return False
        value = self._client.value if by_metadata else ""
        return text == end_cursor(self._team.name, self._stream.config.name, cursor.run_id, value)

    # -- which run, and may the client see it --

    async def _open(
        self, identity: Identity, cursor: Cursor | None, lease: Lease, sink: ResponseSink
    ) -> Session | HttpResponse:
        """The session, with the response begun; it owns `lease` from then on. Raises HatchetError."""
        team, stream = self._team, self._stream
        run_id, found = self._run, None
        if stream.metadata_key is not None:
            pair = stream.metadata_key, self._client.value
            run_id, found = await find_run(team, stream, pair, cursor, self._patience)
        resumes = cursor is not None and self._resumes(run_id, cursor)
        leased: RunSession | MergedSession
        # what is known already is not awaited: a coroutine for each answer would cost more than the answer
        leased = run = team.runs.lease_known(run_id, resumes=resumes) or await team.runs.lease(
            run_id, resumes=resumes
        )
        session: Session | None = None
        try:
            if found is not None:
                found.feed(run.run)
            known = run.state if run.opened(stream) is not None and not stream.needs_workflow else None
            state = known or await self._state_of(run)
            permits = self._permits(identity)
            if stream.allow is not None and not permits(state):
                return problem(403, "the rules of this stream do not allow you this run")
            is_newest = stream.config.runs == "newest"
            if is_newest and self._gets_nothing(stream.config.finished) and (run.over or state.done):
                return nothing_to_come(stream.wire)
            if stream.is_merged:
                await in_task()
                leased = self._merge(run, state, resumes=resumes)
                team.release(run)
                dispatcher = await leased.ready()
                if not leased.is_open_to(permits):
                    return problem(403, "the rules of this stream do not allow you each of its runs")
            elif cursor is None:  # asked only now: during a wait the run may have been dropped
                dispatcher = run.opened(stream) or await run.open(stream)
            else:
                leased, dispatcher = await self._resumed(run, cursor)
            if self._client.head_only:
                headers = stream.wire.headers if self._document is None else DOCUMENT_HEADERS
                return HttpResponse(200, list(headers))
            begun = self._begin(dispatcher, sink, self._admitted(leased, lease, identity), cursor)
            if self._span is not None:
                self._span.began(run_id=run_id, traceparent=run.traceparent, resumed=resumes)
            session = begun
            return session
        finally:
            if session is None:
                team.release(leased)

    def _begin(
        self,
        dispatcher: Dispatcher,
        sink: ResponseSink,
        admitted: Admitted,
        cursor: Cursor | None,
    ) -> Session:
        """Begin the response on `sink`, and make the session."""
        stream = self._stream
        start = dispatcher.channel.start(cursor, came_back=self._cursor != "")
        retry = stream.wire.opening(jittered(stream.config.retry))
        sink.begin([*stream.wire.headers, *start.headers, *self.cors], retry)
        return Session(dispatcher, sink, start, admitted, self._hub.sessions)

    def _admitted(self, run: RunSession | MergedSession, lease: Lease, identity: Identity) -> Admitted:
        client, expires_at = self._client, identity.expires_at
        return Admitted(
            stream=self._stream.config.name,
            run=run,
            lease=lease,
            client=client.address,
            owner=self._team,
            expires_in=None if expires_at is None else expires_at - time.time(),
            entitlement=Entitlement(
                self._team.name, identity, self._run, client.head.without_credentials(), client.scheme
            ),
            span=self._span,
        )

    def _permits(self, identity: Identity) -> Callable[[CoreState], bool]:
        """Whether `allow` lets the client see a run with a state."""
        allow, head = self._stream.allow, self._client.head
        if allow is None:
            return _everyone
        return lambda state: allow.permits(allow_root(identity, state, head))

    def _merge(self, run: RunSession, state: CoreState, *, resumes: bool) -> MergedSession:
        """The session of the run and those that the stream shows with it."""
        stream, merged = self._stream, self._team.merged
        key, value = stream.metadata_key, self._client.value
        if stream.config.runs == "all" and key is not None:
            return merged.conversation(stream, key, value, state)
        return merged.family(stream, run, "" if key is None else value, resumes=resumes)

    @property
    def _patience(self) -> float:
        """Seconds for which a run that does not exist yet is waited for."""
        config = self._stream.config
        if self._gets_nothing(config.unknown):
            return min(config.wait_for_run, UNKNOWN_PATIENCE)
        if self._document is not None:
            return min(config.wait_for_run, max(self._document.wait or 0.0, UNKNOWN_PATIENCE))
        return config.wait_for_run

    async def _state_of(self, run: RunSession) -> CoreState:
        """The run's first state. Raises HatchetError."""
        state = run.state
        if state is None or run.opened(self._stream) is None:
            await in_task()
            state = await run.first_state(self._patience)
        if self._stream.needs_workflow:
            await check_workflow(self._stream, run)
        return state

    def _resumes(self, run_id: str, cursor: Cursor) -> bool:
        """Whether the cursor was issued by this process, for this stream of this run."""
        if cursor.run_id != run_id or cursor.place is None:
            return False
        if self._stream.is_merged:
            return self._team.merged.resumes(self._stream, run_id, cursor)
        run = self._team.runs.get(run_id)
        return run is not None and run.holds(self._stream, cursor)

    async def _resumed(self, run: RunSession, cursor: Cursor) -> tuple[RunSession, Dispatcher]:
        """The session that serves the client with the cursor, in place of `run`, and the dispatcher."""
        await reach(run, cursor)
        # asked only now: during a wait the run may have been dropped, or the stream removed
        dispatcher = run.opened(self._stream) or await run.open(self._stream)
        run = self._issuer(run, dispatcher, cursor)
        return run, run.opened(self._stream) or dispatcher

    def _issuer(self, run: RunSession, dispatcher: Dispatcher, cursor: Cursor) -> RunSession:
        """The session that serves apart from the shared log and has issued the cursor; else `run`."""
        if dispatcher.channel.ids.holds(cursor):
            return run
        apart = self._team.runs.lease_apart(run.run_id, lambda one: one.holds(self._stream, cursor))
        if apart is None:
            return run
        self._team.release(run)
        return apart

    def _gets_nothing(self, setting: str) -> bool:
        """Whether a client without a cursor is answered with 204, by `unknown` or `finished`."""
        return setting == "204" and self._cursor == "" and self._document is None

    # -- refusals --

    def _wait(self, cause: str, detail: str, limit: str | None = None) -> HttpResponse:
        if limit is not None:
            self._team.limits.count_refusal(limit, time.time())
        self._count_refusal(f"wait_{cause}", detail, limit)
        accept = self._client.accept if self._document is None else JSON
        return wait(cause, accept, self._stream.config.retry, detail, self._stream.wire)

    def _count_refusal(self, reason: str, why: str, limit: str | None = None) -> None:
        self._team.counters.refusals[reason] += 1
        self._hub.event_log.refused(
            self._team.name,
            self._stream.config.name,
            reason,
            why=why,
            limit=limit,
            span=None if self._span is None else self._span.ids,
        )

    def _described(self) -> StreamStart:
        return StreamStart(
            team=self._team.name,
            stream=self._stream.config.name,
            method="HEAD" if self._client.head_only else "GET",
            route=self._stream.config.path,
            scheme=self._client.scheme,
            address=self._client.address,
            headers=self._client.head.headers,
        )


def _everyone(state: CoreState) -> bool:
    del state
    return True
