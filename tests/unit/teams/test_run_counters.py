"""What the runs of a team report: counted, and logged where an operator should act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.runs.quota import SubscriptionQuota
from proxy.teams.run_counters import RunCounters


class Page:
    """An event log whose lines are kept, with a clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0
        self.lines: list[tuple[str, str, Mapping[str, Any]]] = []
        self.event_log = EventLog(
            lambda level, event, fields: self.lines.append((level, event, fields)), now=lambda: self.time
        )


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def counters() -> TeamCounters:
    return TeamCounters()


@pytest.fixture
def observer(page: Page, counters: TeamCounters) -> RunCounters:
    return RunCounters(counters, page.event_log, "search", SubscriptionQuota(8))


def test_a_reached_subscription_limit_is_one_warning_a_minute_that_names_the_tap(
    page: Page, observer: RunCounters
) -> None:
    for _ in range(5):
        observer.state_only(1)
    observer.state_only(-1)
    [(level, event, fields)] = page.lines
    assert (level, event, fields["team"], fields["limit"]) == (
        "warning",
        "subscriptions used up",
        "search",
        8,
    )
    assert "hatchet.tap" in fields["remedy"]
    page.time = 61.0
    observer.state_only(1)
    assert page.lines[-1][2]["held_back"] == 4


def test_a_run_that_gets_a_subscription_again_is_no_warning(page: Page, observer: RunCounters) -> None:
    observer.state_only(-1)
    assert page.lines == []


def test_an_unforeseen_error_is_logged_with_its_exception(page: Page, observer: RunCounters) -> None:
    error = KeyError("step")
    observer.unforeseen(error)
    observer.unforeseen(error)
    assert page.lines == [("error", "unforeseen error", {"team": "search", "error": error})]


def test_what_runs_do_is_counted(observer: RunCounters, counters: TeamCounters) -> None:
    observer.false_end()
    observer.lookup("core")
    observer.subscribed("run", 1)
    observer.subscribed("run", 1)
    observer.subscribed("run", -1)
    observer.late_chunk(3)
    observer.late_chunk()
    assert (counters.false_ends, counters.late_chunks) == (1, 4)
    assert (counters.lookups, counters.subscriptions) == ({"core": 1}, {"run": 1})
