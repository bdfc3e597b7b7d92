"""The only door to Hatchet: live events and run state over gRPC, the past over REST, errors translated.

One door per team: its token, its connections, shared by all runs of the team. A door is never changed; a new
token or address is a new door, and closing the old one ends what went through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from urllib.parse import quote

from proxy.core.observations import CoreState, PastState
from proxy.hatchet import codec, protobuf
from proxy.hatchet.endpoint import Endpoint, endpoint
from proxy.hatchet.errors import HatchetError, HistoryAway
from proxy.hatchet.grpc.base import Transport
from proxy.hatchet.grpc.pool import Lean, fits
from proxy.hatchet.rest_codec import newest_run, past_state, step_names, workflow_called
from proxy.hatchet.upstream import Deliver

if TYPE_CHECKING:
    from config.model.files import HatchetConfig
    from proxy.hatchet.rest import Rest

_T = TypeVar("_T")
_P = ParamSpec("_P")

ASK_TIMEOUT: Final = 5.0  # seconds for one GetRunDetails: it answers in milliseconds, or something is wrong
FIND_SINCE: Final = timedelta(days=30)  # the engine keeps runs for 30 days unless told otherwise
FIND_LIMIT: Final = 100  # runs per page; children can inherit the pair and stand before their parent
FIND_PAGES: Final = 5


class HatchetDoor:
    """A team's way to Hatchet: implements `proxy.hatchet.upstream.Upstream`.

    What is wrong with the config (a token that is none, a file that cannot be read) is raised by each call,
    so that a team with a broken token waits like one with a refused token.
    """

    def __init__(self, config: HatchetConfig, env: Mapping[str, str]) -> None:
        self._transport: Transport | HatchetError
        self._rest: Rest | None = None
        self._tenant = self._place = ""
        try:
            at = endpoint(config, env)
            self._tenant, self._place = at.tenant, at.host_port
            self._transport = transport(at, env)
            self._rest = _rest(at)
        except HatchetError as trouble:
            self._transport = trouble

    @property
    def has_history(self) -> bool:
        """Whether a REST history is configured."""
        return self._rest is not None

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        """Subscribe by run id; see `Upstream.follow`."""
        await self._listen(codec.by_run(run_id), deliver, opened)

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        """Subscribe by a metadata pair; see `Upstream.follow_metadata`."""
        await self._listen(codec.by_metadata(key, value), deliver, opened)

    async def core(self, run_id: str) -> CoreState:
        """GetRunDetails; see `Upstream.core`."""
        answer = await self._open_transport().ask(
            protobuf.RUN_DETAILS, codec.run_details(run_id), self._named("GetRunDetails"), ASK_TIMEOUT
        )
        return codec.core_state(run_id, answer)

    async def past(self, run_id: str) -> PastState | None:
        """The REST history of a run; None while it does not know the run. Raises HistoryAway."""
        answer = await self._history().get(f"/api/v1/stable/workflow-runs/{quote(run_id, safe='')}")
        return None if answer is None else _read(past_state, answer)

    async def find(self, key: str, value: str) -> str | None:
        """The id of the newest run without a parent that carries the pair, or None. Raises HistoryAway."""
        since = datetime.now(UTC) - FIND_SINCE
        query = {
            "since": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "only_tasks": "false",
            "include_payloads": "false",
            "limit": str(FIND_LIMIT),
            "additional_metadata": f"{key}:{value}",
        }
        path = f"/api/v1/stable/tenants/{self._tenant}/workflow-runs"
        for page in range(FIND_PAGES):
            answer = await self._history().get(path, query | {"offset": str(page * FIND_LIMIT)})
            found, rows = _read(newest_run, answer or {}, key, value)
            if found is not None or rows < FIND_LIMIT:
                return found
        return None

    async def workflow_steps(self, name: str) -> tuple[str, ...] | None:
        """The step names of a workflow's newest version as written, its on-failure step last; None: no such.

        Raises HistoryAway.
        """
        rest = self._history()
        listed = await rest.get(f"/api/v1/tenants/{self._tenant}/workflows", {"name": name, "limit": "100"})
        workflow_id = _read(workflow_called, listed or {}, name)
        if workflow_id is None:
            return None
        version = await rest.get(f"/api/v1/workflows/{workflow_id}/versions")
        return _read(step_names, version or {})

    async def close(self) -> None:
        """Close the connections; running calls end with HatchetAway."""
        if not isinstance(self._transport, HatchetError):
            await self._transport.close()
        if self._rest is not None:
            await self._rest.close()

    async def _listen(self, request: bytes, deliver: Deliver, opened: Callable[[], None] | None) -> None:
        await self._open_transport().listen(
            protobuf.SUBSCRIBE,
            request,
            self._named("SubscribeToWorkflowEvents"),
            lambda message: deliver(codec.live_event(message)),
            opened,
        )

    def _named(self, call: str) -> str:
        """A call as errors tell it: which, and where."""
        return f"{call} at {self._place}"

    def _open_transport(self) -> Transport:
        if isinstance(self._transport, HatchetError):
            raise type(self._transport)(*self._transport.args)
        return self._transport

    def _history(self) -> Rest:
        if self._rest is None:
            self._open_transport()  # what is wrong with the token, say, is the better answer
            raise HistoryAway("the REST history is off (hatchet.api)")
        return self._rest


def transport(at: Endpoint, env: Mapping[str, str]) -> Transport:
    """The lean transport where it can reach the address; grpcio else, or where STREAM_PROXY_GRPC says so."""
    if env.get("STREAM_PROXY_GRPC", "lean") == "lean" and fits(at.host_port, env):
        return Lean(at)
    from proxy.hatchet.grpc.grpcio import Channels  # noqa: PLC0415 - grpcio takes 16 MB, and mostly none of it is needed

    return Channels(at)


def _rest(at: Endpoint) -> Rest | None:
    if at.api is None:
        return None
    from proxy.hatchet.rest import Rest  # noqa: PLC0415 - aiohttp takes 0.2 s to import, and `api: off` needs none of it

    return Rest(at)


def _read(parse: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Parse an answer of the history; whatever it lacks is HistoryAway."""
    try:
        return parse(*args, **kwargs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HistoryAway(f"the REST history's answer is not what it was ({type(error).__name__})") from None
