"""The state of one granted team: which version of its file is served, since when, and what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from config.model.files import TeamConfig
from proxy.observability.health import (
    ConfigHealth,
    ConfigState,
    LimitHealth,
    SubscriptionHealth,
    TeamHealth,
)
from proxy.teams.team import Team


class TeamState:
    """The record of one team; the log, the probes and the metrics read it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.team: Team | None = None  # None: no version of the file was ever good
        self.config = ConfigHealth(state=ConfigState.BROKEN)
        self._reloads: Counter[str] = Counter()  # ok | failed

    def is_current(self, config: TeamConfig) -> bool:
        """Whether `config` is what is served, and no newer version is broken."""
        return (
            self.team is not None and self.config.state is ConfigState.CURRENT and self.team.config == config
        )

    def went_live(self, seconds: float) -> None:
        """The version that was loaded last is served; loading and applying it took `seconds`."""
        self._become(ConfigState.CURRENT, None)
        self._count("ok", seconds)
        self.config = replace(self.config, reloaded_at=time.time())

    def failed(self, problems: Sequence[str], seconds: float) -> None:
        """The version that was loaded last is broken; the version before it stays, if there is one."""
        state = ConfigState.BROKEN if self.team is None else ConfigState.LAST_GOOD
        self._become(state, problems[0] if problems else None)
        self._count("failed", seconds)

    def health(self) -> TeamHealth:
        """The team at this moment, for probes and metrics."""
        if self.team is None:
            return TeamHealth(self.name, config=self.config)
        quota = self.team.quota
        return TeamHealth(
            self.name,
            self.team.upstream.health,
            self.config,
            SubscriptionHealth(used=quota.taken, limit=quota.most, state_only=quota.refused),
            self.team.upstream.history,
            self.team.issuer,
            _limits(self.team, time.monotonic()),
        )

    def _become(self, state: ConfigState, problem: str | None) -> None:
        if (self.config.state, self.config.problem) != (state, problem) or self.config.since is None:
            self.config = replace(self.config, state=state, problem=problem, since=time.time())

    def _count(self, result: str, seconds: float) -> None:
        self._reloads[result] += 1
        self.config = replace(self.config, reloads=dict(self._reloads), reload_seconds=seconds)


def _limits(team: Team, now: float) -> dict[str, LimitHealth]:
    """The team's limits: those that are configured, and those that have turned a client away."""
    use, refusals = team.limits.use(now), team.limits.refusals
    found: dict[str, LimitHealth] = {}
    for name in dict.fromkeys([*use, *refusals]):
        one, refused = use.get(name), refusals.get(name)
        found[name] = LimitHealth(
            limit=None if one is None else one.limit,
            used=None if one is None else one.used,
            refused=0 if refused is None else refused.times,
            last=None if refused is None else refused.last,
        )
    most = team.config.limits.backlog_bytes
    if most is not None:
        found["backlog_bytes"] = LimitHealth(limit=most, used=team.counters.backlog_bytes)
    return found
