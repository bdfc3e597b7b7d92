"""The rechecker: what it closes, what it leaves open, and that no stream keeps it from the next one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import pytest

from proxy.access.authenticator import ANONYMOUS, Identity, KeysUnavailable, RequestHead, Unauthenticated
from proxy.access.entitlement import Entitlement
from proxy.access.origins import OriginDecision
from proxy.core.observations import CoreState, Status
from proxy.server.recheck import Rechecker
from tests.support.waiting import until

RUN = "00000000-0000-4000-8000-000000000000"


class Team:
    """A team with one stream; each answer is set by the test."""

    def __init__(self) -> None:
        self.streams = {"s": self}
        self.origins = self.authenticator = self
        self.allow: Team | None = self
        self.page_refused: str | None = None
        self.permitted = True
        self.trouble: Exception | None = None  # of the credential

    def decide(self, headers: dict[str, str], scheme: str) -> OriginDecision:
        return OriginDecision((), self.page_refused)

    async def confirm(self, identity: Identity, *, stream: str, run: str) -> Identity:
        assert (stream, run) == ("s", RUN)
        if self.trouble is not None:
            raise self.trouble
        return identity

    def permits(self, root: dict[str, Any]) -> bool:
        assert root["run"]["id"] == RUN
        return self.permitted


class Session:
    """An open stream; `expired` says how often it was ended."""

    def __init__(self, team: str = "t", *, stream: str = "s", checked: bool = True) -> None:
        head = RequestHead.read([], b"")
        self.entitlement = Entitlement(team, ANONYMOUS, RUN, head, "http") if checked else None
        self.stream = stream
        self.run = self
        self.state: CoreState | None = CoreState(RUN, Status.RUNNING, False)
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


class Hub:
    """Two teams and the sessions of their clients."""

    def __init__(self, *sessions: Session) -> None:
        self.sessions = sessions
        self.teams = {"t": Team(), "other": Team()}
        self.server = self
        self.recheck = 1000.0
        self.event_log = self
        self.unforeseen_errors: list[tuple[str, Exception]] = []

    def unforeseen(self, team: str, error: Exception) -> None:
        self.unforeseen_errors.append((team, error))


async def expired(change: Any, *sessions: Session) -> tuple[list[int], Hub]:
    """How often each session was ended by one check after `change` was applied to team `t`."""
    hub = Hub(*sessions)
    change(hub.teams["t"])
    await Rechecker(cast(Any, hub)).check_all()
    return [session.expired for session in sessions], hub


@pytest.mark.parametrize(
    ("name", "value", "ended"),
    [
        ("permitted", True, 0),
        ("permitted", False, 1),
        ("page_refused", "this page is not listed", 1),
        ("trouble", Unauthenticated("the token has expired", "Bearer"), 1),
        ("trouble", KeysUnavailable("the keys cannot be read"), 0),
        ("streams", {}, 0),
    ],
)
async def test_what_would_be_refused_now_is_closed_and_nothing_else(
    name: str, value: object, ended: int
) -> None:
    found, hub = await expired(lambda team: setattr(team, name, value), Session(), Session("other"))
    assert found == [ended, 0]
    assert hub.unforeseen_errors == []


async def test_without_allow_and_before_its_state_is_known_no_run_is_refused() -> None:
    def refuse(team: Team) -> None:
        team.permitted = False

    early = Session()
    early.state = None
    assert (await expired(refuse, early))[0] == [0]

    def allow_all(team: Team) -> None:
        team.permitted, team.allow = False, None

    assert (await expired(allow_all, Session()))[0] == [0]


async def test_neither_an_error_nor_a_session_that_is_never_checked_ends_the_checks_of_the_others() -> None:
    def fail(team: Team) -> None:
        team.trouble = ZeroDivisionError()

    unchecked, broken, other = Session(checked=False), Session(), Session("other")
    hub = Hub(unchecked, broken, other)
    fail(hub.teams["t"])
    hub.teams["other"].permitted = False
    await Rechecker(cast(Any, hub)).check_all()
    assert [unchecked.expired, broken.expired, other.expired] == [0, 0, 1]
    assert hub.unforeseen_errors == [("t", hub.teams["t"].trouble)]


@pytest.mark.parametrize("asked", [False, True], ids=["by the clock", "at once"])
async def test_it_checks_regularly_and_when_rights_may_have_changed(asked: bool) -> None:
    session = Session()
    hub = Hub(session)
    hub.teams["t"].permitted = False
    hub.recheck = 1000.0 if asked else 0.001
    rechecker = Rechecker(cast(Any, hub))
    running = asyncio.create_task(rechecker.run())
    for count in range(1, 3):
        if asked:
            rechecker.soon()
        await until(lambda count=count: session.expired >= count)  # type: ignore[misc]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    if asked:
        assert session.expired == 2, "once each time"
