"""The replicas as the console shows them: which are there, which leads which run, when one took over last."""

from __future__ import annotations

import time
from typing import Any

from proxy.console.overview import shared_log
from proxy.replicas.replication import log_of
from proxy.replicas.roll_call import Report
from proxy.teams.hub import Hub


async def replicas_as_json(hub: Hub) -> dict[str, Any]:
    """All replicas that share the log; `log` is None where this process keeps its runs in memory alone."""
    if hub.replication is None:
        return {"log": None, "replicas": [], "silent": 0, "runs": []}
    roll = await hub.replication.roll()
    own = hub.replication.replica
    return {
        "log": shared_log(hub),
        "replicas": [_replica(report, own) for report in roll.reports],
        "silent": roll.silent,
        "runs": [
            {"team": team, "run": run_id, "replica": report.replica}
            for report in roll.reports
            for team, run_id in filter(None, map(log_of, report.leads))
        ],
    }


def _replica(report: Report, own: str) -> dict[str, Any]:
    return {
        "replica": report.replica,
        "here": report.replica == own,
        "host": report.host,
        "seconds": max(0.0, time.time() - report.started),
        "leading": report.leading,
        "following": report.following,
        "local": report.local,
        "take_overs": report.take_overs,
        "last_take_over": report.last_take_over,
        "stored_within": report.stored_within,
        "behind": report.behind,
    }
