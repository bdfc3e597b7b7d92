"""Of several workers each has its share of what a team may have in all."""

from __future__ import annotations

from config.model.files import Config, GrantBlock, ServerConfig
from config.model.resolve import grant, shared


def config(**limits: int | str) -> Config:
    block = GrantBlock.model_validate({"hatchet": {"token": "t", "subscriptions": 8}, "limits": limits})
    return Config(ServerConfig(), {"a": grant("a", block)})


def test_totals_are_divided_and_rounded_up_and_the_others_stay() -> None:
    whole = config(connections=10, runs=1, connections_per_run=50, connections_per_subject=7)
    [team] = shared(whole, 3).teams.values()
    assert (team.limits.connections, team.limits.runs, team.limits.backlog_bytes) == (4, 1, None)
    assert (team.limits.connections_per_run, team.limits.connections_per_subject) == (50, 7)
    assert team.hatchet.subscriptions == 3
    assert whole.teams["a"].limits.connections == 10


def test_one_process_has_everything() -> None:
    whole = config(connections=10)
    assert shared(whole, 1) is whole
