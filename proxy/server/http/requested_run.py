"""Which run a request means, and whether that run is one for the stream.

A path with a run id names the run itself. A metadata path means the newest run that carries the value, or
the run of the client's cursor.
"""

from __future__ import annotations

from typing import Final

from proxy.core.observations import CoreState
from proxy.core.tasks import in_task
from proxy.hatchet.errors import HatchetError, HistoryAway, RunUnknown
from proxy.log.cursor import Cursor
from proxy.log.shared_frames import position_of
from proxy.runs.lookup import Found
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream
from proxy.teams.team import Team

NAME_PATIENCE: Final = 2.0
"""Seconds for which the name of a run's workflow is waited for: the history is some 0.1 s behind."""


class OtherWorkflow(HatchetError):
    """The run is of a workflow that the stream is not for."""


async def find_run(
    team: Team, stream: LiveStream, pair: tuple[str, str], cursor: Cursor | None, patience: float
) -> tuple[str, Found | None]:
    """The run that carries `pair`, and its events that arrived during the search.

    It waits up to `patience` seconds for the run. Raises HatchetError.
    """
    await in_task()
    if cursor is not None and stream.config.runs == "newest" and await _carries(team, cursor.run_id, pair):
        return cursor.run_id, None  # a cursor stays with its run, even if a newer one carries the pair
    found = await team.find(*pair, patience, stream.config.workflow)
    return found.run_id, found


async def _carries(team: Team, run_id: str, pair: tuple[str, str]) -> bool:
    """Whether a cursor's run carries the pair in the path: the cursor may be forged."""
    run = team.runs.get(run_id)
    state: CoreState | None = None if run is None else run.state
    try:
        if state is None:
            state = await (team.upstream.core(run_id) if run is None else run.first_state(0))
    except RunUnknown:
        return False
    key, value = pair
    return str(state.metadata.get(key, "")) == value


async def check_workflow(stream: LiveStream, run: RunSession) -> None:
    """Wait for the name of the run's workflow, if the stream needs it. Raises OtherWorkflow, HistoryAway."""
    if run.workflow is None:
        await in_task()
        try:
            await run.named(NAME_PATIENCE)
        except HistoryAway:
            if stream.depends_on_workflow:
                raise
    if not stream.is_for(run.workflow):
        raise OtherWorkflow("the run is of another workflow")


async def reach(run: RunSession, cursor: Cursor) -> None:
    """Read the shared log up to the cursor, if another replica has served that and this one has not yet."""
    if not run.reaches(cursor):
        await in_task()
        await run.run.reach(position_of(cursor))
