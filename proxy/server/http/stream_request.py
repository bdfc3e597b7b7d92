"""Visit: one client's request for a stream, from the question to its ending.

The order of the questions is the law: is it well formed (400), may this page ask (403), who asks (401), has
he seen the end already (204), is there room (wait), does the run exist (404), may he see it (403). Nothing
is sent before the last one is answered; from then on the channel writes.

They are asked in steps (`proxy.core.resumable`): where nothing has to be waited for, a connection
asks them by itself (`at_once`); the rest is done in a task (`open`), which goes on where that stopped.
"""

from __future__ import annotations

import time
from typing import Any, Final

from proxy.access.admission import Lease, Refused
from proxy.access.authenticator import NOBODY, Identity, KeysUnavailable, RequestHead, Unauthenticated
from proxy.core.events import GapCause
from proxy.core.observations import CoreState
from proxy.core.resumable import Asking, Wait, carried_out
from proxy.core.value import value
from proxy.formats import sse
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.log.cursor import Cursor, end_cursor, read_cursor, run_id_of
from proxy.runs.lookup import Found
from proxy.server.http.responses import STREAM_HEADERS, Answer, Headers, jittered, problem, wait
from proxy.streams.channel import Channel
from proxy.streams.run_session import Life
from proxy.streams.session import Stay, StaySink
from proxy.streams.stream import LiveStream
from proxy.teams.hub import Hub
from proxy.teams.team import Team

MAX_VALUE: Final = 200  # characters of a metadata value in a path: the operator's contract


@value
class Question:
    """What the request says, without its transport; `value` is what stands in the path's placeholder."""

    value: str
    asked: RequestHead
    scheme: str
    client: str

    @property
    def accept(self) -> str | None:
        return self.asked.headers.get("accept")

    @property
    def cursor(self) -> str:
        """The cursor's text: the header wins over the query, which an EventSource repeats unchanged."""
        return self.asked.headers.get("last-event-id") or self.asked.query.get("last_event_id") or ""


@value
class Opened:
    """A stream that may begin: `place` and `gap` say where the reader stands."""

    channel: Channel
    place: int
    gap: GapCause | None
    identity: Identity
    headers: Headers


class Visit:
    """One request on one stream of one team."""

    def __init__(self, hub: Hub, team: Team, stream: LiveStream, question: Question) -> None:
        self.hub = hub
        self.team = team
        self.stream = stream
        self.question = question
        self._cors: Headers = []
        self._lease: Lease | None = None
        self._life: Life | None = None
        self._asking = self._opens()
        self._waits = False  # it is asked in a task, which the hub counts
        self._wait_for: Wait | None = None  # where `at_once` could not go on
        self._answer: Opened | Answer | None = None
        self._failed: Exception | None = None
        self._metadata_key = stream.metadata_key
        by_id = self._metadata_key is None
        # What a ticket and the limits mean by "run": the canonical id, or the path's value.
        self._run = (run_id_of(question.value) or "") if by_id else question.value

    def at_once(self) -> Opened | Answer | None:
        """What can be answered without waiting; None where `open` is to go on from there."""
        try:
            self._wait_for = next(self._asking)
        except StopIteration as done:
            self._answer = self._told(done.value)
        except Exception as error:
            self._failed = error  # which `open` raises, where errors are answered
        return self._answer

    async def open(self) -> Opened | Answer:
        """Answer the questions in order. Whatever comes of it, `stay` or `close` must be called."""
        if self._failed is not None:
            raise self._failed
        if self._answer is None:
            self._waits = True
            self._answer = self._told(await carried_out(self._asking, self._wait_for))
        return self._answer

    def close(self) -> None:
        """Give back what was lent, unless a stay has it: the run, the place within the limits."""
        if self._life is not None:
            self.team.runs.release(self._life)
        if self._lease is not None:
            self._lease.release()
        self._life = self._lease = None

    def _told(self, answer: Opened | Answer) -> Opened | Answer:
        """What is answered, counted where it is a refusal, with what a page of another origin needs."""
        if isinstance(answer, Answer):
            if answer.status >= 400:
                self._refused(str(answer.status))
            return Answer(answer.status, answer.headers + self._cors, answer.body)
        return answer

    def _opens(self) -> Asking[Opened | Answer]:
        config = self.stream.config
        refusal = self._well_formed() or self._origin()
        if refusal is not None:
            return refusal
        try:
            identity = NOBODY
            if not self.team.authenticator.open:
                identity = yield from self.team.authenticator.asks(
                    self.question.asked, stream=config.name, run=self._run
                )
        except Unauthenticated as error:
            return problem(401, error.reason, headers=[(b"www-authenticate", error.challenge.encode())])
        except KeysUnavailable as error:
            return self._wait("config", str(error))
        text = self.question.cursor
        cursor = read_cursor(text) if text else None
        if cursor is not None and cursor.place is None and self._is_end(cursor, text):
            return Answer(204, [(b"cache-control", b"no-store")])
        if self.hub.is_full(waits=self._waits):
            return self._wait("limit", "this proxy holds as many connections as it can; try again later")
        admitted = self.team.limits.admit(self._run, identity.subject, time.monotonic())
        if isinstance(admitted, Refused):
            return self._wait("limit", f"the limit {admitted.which} of this team is reached; try again later")
        self._lease = admitted
        try:
            return (yield from self._find(identity, cursor, came_back=bool(text)))
        except RunUnknown:
            return problem(404, "there is no such run")
        except HatchetError as error:
            self.hub.event_log.trouble(self.team.name, error)
            return self._wait("hatchet", "Hatchet cannot be asked at the moment; try again later")

    # -- is it well formed, may this page ask --

    def _well_formed(self) -> Answer | None:
        value = self.question.value
        if self._metadata_key is None:
            if not self._run:
                return problem(400, "the run id in the path is not a UUID")
        elif not 1 <= len(value) <= MAX_VALUE or any(ord(char) < 32 or ord(char) == 127 for char in value):
            return problem(
                400, f"the value in the path must have 1 to {MAX_VALUE} characters, no control characters"
            )
        return None

    def _origin(self) -> Answer | None:
        verdict = self.stream.origins.judge(self.question.asked.headers, self.question.scheme)
        self._cors = list(verdict.headers)
        if verdict.refused is not None:
            return problem(403, verdict.refused)
        return None

    def _is_end(self, cursor: Cursor, text: str) -> bool:
        by_metadata = self._metadata_key is not None
        if not by_metadata and cursor.run_id != self._run:
            return False
        value = self.question.value if by_metadata else ""
        return text == end_cursor(self.team.name, self.stream.config.name, cursor.run_id, value)

    # -- which run, and may he see it --

    def _find(self, identity: Identity, cursor: Cursor | None, *, came_back: bool) -> Asking[Opened | Answer]:
        team, stream, patience = self.team, self.stream, self.stream.config.wait_for_run
        run_id, found = self._run, None
        if self._metadata_key is not None:
            run_id, found = yield from self._run_id(self._metadata_key, cursor, patience)
        known = cursor is not None and cursor.run_id == run_id and cursor.place is not None
        resumes = known and self._holds(run_id, cursor)
        life: Life = team.runs.try_lease(run_id, resumes=resumes) or (
            yield lambda: team.runs.lease(run_id, resumes=resumes)
        )
        self._life = life
        if found is not None:
            found.feed(life.run)
        state: CoreState = life.state or (yield lambda: life.known(patience))
        allow = stream.allow
        if allow is not None and not allow.permits(allow_root(identity, state, self.question.asked)):
            return problem(403, "the rules of this stream do not allow you this run")
        channel: Channel = life.opened(stream) or (yield lambda: life.channel(stream))
        place, gap = 0, GapCause.UNKNOWN_CURSOR if came_back else None
        held = cursor is not None and channel.ids.holds(cursor)
        if held and cursor is not None and cursor.place is not None and cursor.place <= channel.backlog.last:
            place, gap = cursor.place, None
        return Opened(channel, place, gap, identity, STREAM_HEADERS + self._cors)

    def _run_id(self, key: str, cursor: Cursor | None, patience: float) -> Asking[tuple[str, Found | None]]:
        """The run that carries the pair in the path, and what was heard of it while it was looked for."""
        if cursor is not None and (yield from self._carries(cursor.run_id, key)):
            return cursor.run_id, None  # a cursor stays with its run, even if a newer one carries the pair
        found: Found = yield lambda: self.team.find(key, self.question.value, patience)
        return found.run_id, found

    def _carries(self, run_id: str, key: str) -> Asking[bool]:
        """Whether a run that a cursor names carries the pair in the path: cursors are not believed."""
        life = self.team.runs.get(run_id)
        state: CoreState | None = None if life is None else life.state
        try:
            if state is None:
                state = yield lambda: self.team.upstream.core(run_id) if life is None else life.known(0)
        except RunUnknown:
            return False
        return state is not None and str(state.metadata.get(key, "")) == self.question.value

    def _holds(self, run_id: str, cursor: Cursor | None) -> bool:
        life = self.team.runs.get(run_id)
        return cursor is not None and life is not None and life.holds(self.stream, cursor)

    def _wait(self, cause: str, detail: str) -> Answer:
        self._refused(f"wait_{cause}")
        return wait(cause, self.question.accept, self.stream.config.retry, detail)

    def _refused(self, reason: str) -> None:
        self.team.counters.refusals[reason] += 1
        self.hub.event_log.refused(self.team.name, self.stream.config.name, reason)

    # -- the stream --

    def head(self) -> bytes:
        """The first bytes of the stream."""
        return sse.retry(jittered(self.stream.config.retry))

    def stay(self, opened: Opened, sink: StaySink) -> Stay:
        """The stream itself, into `sink`; what was lent to this visit is the stay's from now on."""
        assert self._life is not None and self._lease is not None
        expires_at = opened.identity.expires_at
        stay = Stay(
            self.hub,
            self.team,
            sink,
            stream=self.stream.config.name,
            life=self._life,
            lease=self._lease,
            channel=opened.channel,
            place=opened.place,
            gap=opened.gap,
            client=self.question.client,
            expires_in=None if expires_at is None else expires_at - time.time(),
        )
        self._life = self._lease = None
        return stay


def allow_root(identity: Identity, state: CoreState, asked: RequestHead) -> dict[str, Any]:
    """What `allow` sees; a ticket is nobody's parameter."""
    params = {name: value for name, value in asked.query.items() if name != "ticket"}
    return {
        "claims": identity.claims,
        "run": {"id": state.run_id, "metadata": state.metadata},
        "request": {"params": params, "origin": asked.headers.get("origin")},
    }
