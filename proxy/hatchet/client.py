"""HatchetClient: live events and run state over gRPC, the history over REST, errors translated.

Each team has a client of its own, with its token and its connections, shared by all of the team's runs. A
client is immutable: a new token or address makes a new client, and closing the old one ends its calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from urllib.parse import quote

from proxy.core.observations import CoreState, ListedRun, PastState
from proxy.hatchet import codec, protobuf
from proxy.hatchet.endpoint import Endpoint, endpoint
from proxy.hatchet.errors import HatchetError, HistoryAway
from proxy.hatchet.grpc.base import Transport
from proxy.hatchet.grpc.grouped_reads import GroupedReads
from proxy.hatchet.grpc.pool import ConnectionPool, can_reach
from proxy.hatchet.rest_codec import (
    listed_runs,
    newest_run,
    oldest_run_of,
    past_state,
    rows_of,
    step_names,
    workflow_called,
    workflow_ids,
)
from proxy.hatchet.upstream import Deliver

if TYPE_CHECKING:
    from config.model.files import HatchetConfig
    from proxy.hatchet.rest import Rest

_T = TypeVar("_T")
_P = ParamSpec("_P")

DETAILS_TIMEOUT: Final = 5.0  # seconds for one call that is answered at once, normally in milliseconds
OWN: Final = "lean"  # the value of STREAM_PROXY_GRPC for the proxy's own HTTP/2 connections: the default
FIND_SINCE: Final = timedelta(days=30)  # the engine keeps runs for 30 days by default
PROBE_SINCE: Final = timedelta(minutes=1)  # few runs, so that a probe costs the database nothing
FIND_LIMIT: Final = 100  # runs per page; children can inherit the pair and be listed before their parent
WORKFLOW_LIMIT: Final = 100  # rows of a page of the list of workflows
WORKFLOW_PAGES: Final = 50  # pages of it: 5,000 workflows
FIND_PAGES: Final = 5  # at most, so that a pair with thousands of children stays bounded


class HatchetClient:
    """One team's client: implements `proxy.hatchet.upstream.Upstream`.

    An error in the configuration (a malformed token, an unreadable file) is raised by each call, not by the
    constructor, so that a team with a broken token waits like one with a rejected token.
    """

    def __init__(
        self, config: HatchetConfig, env: Mapping[str, str], reads: GroupedReads | None = None
    ) -> None:
        """`reads` is shared by the clients of all teams; None: this one is alone."""
        self._transport: Transport | HatchetError  # the error is what each call raises
        self._rest: Rest | None = None
        self._tenant = self._host_port = ""
        try:
            at = endpoint(config, env)
            self._tenant, self._host_port = at.tenant, at.host_port
            self._transport = transport(at, env, reads)
            self._rest = _rest(at)
        except HatchetError as error:
            self._transport = error

    @property
    def has_history(self) -> bool:
        """Whether a REST history is configured."""
        return self._rest is not None

    def follow(
        self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> Coroutine[Any, Any, None]:
        """Subscribe by run id; see `Upstream.follow`."""
        return self._listen(codec.by_run(run_id), deliver, opened)

    def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> Coroutine[Any, Any, None]:
        """Subscribe by a metadata pair; see `Upstream.follow_metadata`."""
        return self._listen(codec.by_metadata(key, value), deliver, opened)

    async def core(self, run_id: str) -> CoreState:
        """GetRunDetails; see `Upstream.core`."""
        answer = await self._open_transport().unary(
            protobuf.RUN_DETAILS, codec.run_details(run_id), self._named("GetRunDetails"), DETAILS_TIMEOUT
        )
        return codec.core_state(run_id, answer)

    async def past(self, run_id: str) -> PastState | None:
        """The REST history of a run; None while it does not know the run. Raises HistoryAway."""
        answer = await self._history().get(f"/api/v1/stable/workflow-runs/{quote(run_id, safe='')}")
        return None if answer is None else _read(past_state, answer)

    async def find(self, key: str, value: str, workflows: Sequence[str] | None = None) -> str | None:
        """The newest run without a parent that carries the pair; see `Upstream.find`."""
        for page in range(FIND_PAGES):
            answer = await self._page_of_runs(key, value, page)
            found, rows = _read(newest_run, answer, key, value, workflows)
            if found is not None or rows < FIND_LIMIT:
                return found
        return None

    async def runs_with(self, key: str, value: str, most: int) -> list[ListedRun]:
        """The list of runs by a metadata pair; see `Upstream.runs_with`."""
        found: list[ListedRun] = []
        page = 0
        while len(found) < most:
            answer = await self._page_of_runs(key, value, page)
            found += _read(listed_runs, answer, key, value)
            page += 1
            if len(answer.get("rows") or ()) < FIND_LIMIT:
                break
        return found

    async def _page_of_runs(self, key: str, value: str, page: int) -> Mapping[str, Any]:
        query = {
            "since": (datetime.now(UTC) - FIND_SINCE).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "only_tasks": "false",
            "include_payloads": "false",
            "limit": str(FIND_LIMIT),
            "additional_metadata": f"{key}:{value}",
            "offset": str(page * FIND_LIMIT),
        }
        path = f"/api/v1/stable/tenants/{self._tenant}/workflow-runs"
        answer = await self._history().get(path, query)
        return answer if isinstance(answer, dict) else {}

    async def keep_open(self, step_run_id: str) -> None:
        """PutStreamEvent of an empty chunk; see `Upstream.keep_open`."""
        await self._open_transport().unary(
            protobuf.PUT_STREAM_EVENT,
            codec.keepalive_chunk(step_run_id, time.time_ns()),
            self._named("PutStreamEvent"),
            DETAILS_TIMEOUT,
        )

    async def check_history(self) -> None:
        """Read one row of the list of runs; see `Upstream.check_history`."""
        since = datetime.now(UTC) - PROBE_SINCE
        query = {
            "since": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "only_tasks": "false",
            "include_payloads": "false",
            "limit": "1",
        }
        rest = self._history()
        answer = await rest.get(f"/api/v1/stable/tenants/{self._tenant}/workflow-runs", query)
        if answer is None:
            raise HistoryAway(
                f"{rest.name} answers HTTP 404: hatchet.api (or HATCHET_CLIENT_SERVER_URL) must be the "
                "address of Hatchet's API, without a path"
            )
        _read(rows_of, answer)

    async def workflow_id(self, name: str) -> str | None:
        """The id of the workflow `name`; None if there is none. Raises HistoryAway."""
        path = f"/api/v1/tenants/{self._tenant}/workflows"
        listed = await self._history().get(path, {"name": name, "limit": "100"})
        return _read(workflow_called, listed or {}, name)

    async def run_since(self, workflow_id: str, since: datetime) -> str | None:
        """The id of the workflow's first run that was triggered after `since`; None so far.

        Raises HistoryAway.
        """
        query = {
            "since": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "only_tasks": "false",
            "include_payloads": "false",
            "limit": str(FIND_LIMIT),
        }
        answer = await self._history().get(f"/api/v1/stable/tenants/{self._tenant}/workflow-runs", query)
        return None if answer is None else _read(oldest_run_of, answer, workflow_id)

    async def workflow_steps(self, name: str) -> tuple[str, ...] | None:
        """The step names of a workflow's newest version in their order, the on-failure step last.

        None if there is no workflow `name`. Raises HistoryAway.
        """
        workflow_id = await self.workflow_id(name)
        return None if workflow_id is None else await self.steps_of(workflow_id)

    async def steps_of(self, workflow_id: str) -> tuple[str, ...]:
        """The step names of a workflow's newest version; see `workflow_steps`. Raises HistoryAway."""
        version = await self._history().get(f"/api/v1/workflows/{workflow_id}/versions")
        return _read(step_names, version or {})

    async def workflows(self) -> dict[str, str]:
        """The ids of the tenant's workflows by their names. Raises HistoryAway."""
        path, found = f"/api/v1/tenants/{self._tenant}/workflows", dict[str, str]()
        for page in range(WORKFLOW_PAGES):
            query = {"limit": str(WORKFLOW_LIMIT), "offset": str(page * WORKFLOW_LIMIT)}
            rows = _read(workflow_ids, await self._history().get(path, query) or {})
            known = len(found)
            found.update(rows)
            if len(rows) < WORKFLOW_LIMIT or len(found) == known:
                break
        return found

    async def close(self) -> None:
        """Close the connections; running calls end with HatchetAway."""
        if not isinstance(self._transport, HatchetError):
            await self._transport.close()
        if self._rest is not None:
            await self._rest.close()

    async def _listen(self, request: bytes, deliver: Deliver, opened: Callable[[], None] | None) -> None:
        def receive(message: bytes) -> None:
            deliver(codec.live_event(message))

        await self._open_transport().server_stream(
            protobuf.SUBSCRIBE, request, self._named("SubscribeToWorkflowEvents"), receive, opened
        )

    def _named(self, call: str) -> str:
        """The name of a call in error messages, with the address."""
        return f"{call} at {self._host_port}"

    def _open_transport(self) -> Transport:
        if isinstance(self._transport, HatchetError):
            raise type(self._transport)(*self._transport.args)
        return self._transport

    def _history(self) -> Rest:
        if self._rest is None:
            self._open_transport()  # an error in the configuration explains more than the one below
            raise HistoryAway("the REST history is off (hatchet.api)")
        return self._rest


def transport(at: Endpoint, env: Mapping[str, str], reads: GroupedReads | None = None) -> Transport:
    """The connection pool if it can reach the address, else grpcio.

    STREAM_PROXY_GRPC=grpcio forces the latter.
    """
    if env.get("STREAM_PROXY_GRPC", OWN) == OWN and can_reach(at.host_port, env):
        return ConnectionPool(at, reads)
    from proxy.hatchet.grpc.grpcio import GrpcioTransport  # noqa: PLC0415 - takes 16 MB, rarely needed

    return GrpcioTransport(at)


def _rest(at: Endpoint) -> Rest | None:
    if at.api is None:
        return None
    from proxy.hatchet.rest import Rest  # noqa: PLC0415 - the SSL library takes 2 MB

    return Rest(at)


def _read(parse: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Parse an answer of the history. Raises HistoryAway if something in it is missing."""
    try:
        return parse(*args, **kwargs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HistoryAway(
            f"the REST history's answer has another form than expected ({type(error).__name__})"
        ) from None
