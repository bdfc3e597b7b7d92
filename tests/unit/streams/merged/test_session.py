"""MergedSession: when items are sent, what ends it, and that everything it was lent is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from config.model.files import RuleConfig, StreamConfig
from proxy.core.events import End, Event, GapCause, Item, StepGap
from proxy.core.observations import CoreState, Status
from proxy.hatchet.errors import HatchetAway, HatchetError, RunUnknown
from proxy.observability.counters import TeamCounters
from proxy.rules.ruleset import Rules
from proxy.runs.followed_run import FollowedRun
from proxy.streams.merged import session as merged_session
from proxy.streams.merged.membership import Member, TooManyRuns
from proxy.streams.merged.session import JOINS_AT_ONCE, MOST_RUNS, MergedSession
from proxy.streams.stream import LiveStream
from tests.support.fakes import rest
from tests.support.merged_runs import PlayedRuns, PlayedSession
from tests.support.waiting import until

FIRST, SECOND, THIRD = (f"00000000-0000-4000-8000-{number:012d}" for number in range(3))


def stream(data: str = "run_id") -> LiveStream:
    rules = (RuleConfig(name="r", events=("*", "step_stream"), data=data),)
    config = StreamConfig(name="s", path="/{workflowRunId}", rules=rules, include=("children",))
    return LiveStream(config, Rules(config), None, cast(Any, None))


def happened(run: str, type_: str = "step_queued", at: int = 1) -> Event:
    return Event(type_, run, "work", run, at=f"1970-01-01T00:00:{at:02d}Z")


class Listed:
    """A membership that the test decides about."""

    settle_time = 0.01
    guarded = True
    sequential = False

    def __init__(self, *runs: str) -> None:
        self.runs = runs
        self.past: set[str] = set()
        self.decides: str | None = None  # the run whose end is the stream's
        self.held: list[Item] = []  # items that wait for `settled`
        self.settled = asyncio.Event()
        self.trouble: Exception | None = None  # what `first` raises
        self.settling: Exception | None = None  # what `settle` raises
        self.watching: list[str] = []

    async def first(self, session: MergedSession) -> None:
        if self.trouble is not None:
            raise self.trouble
        for at, run in enumerate(self.runs):
            session.add(run, created_at=at, past=run in self.past)

    async def watch(self, session: MergedSession) -> None:
        self.watching.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            self.watching.append("ended")

    def holds(self, session: MergedSession, member: Member, item: Item) -> bool:
        return item in self.held

    async def settle(self, session: MergedSession, member: Member, item: Item) -> None:
        await self.settled.wait()
        self.held.remove(item)
        if self.settling is not None:
            raise self.settling

    def ends(self, member: Member) -> bool:
        return member.run_id == self.decides


class Feed:
    """The runs whose events it brings."""

    def __init__(self) -> None:
        self.attached: list[PlayedSession] = []

    def attach(self, run: FollowedRun) -> None:
        self.attached.append(cast(PlayedSession, run))

    def detach(self, run: FollowedRun) -> None:
        self.attached.remove(cast(PlayedSession, run))


class Client:
    """A subscriber as far as a refusal needs it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write_control(self, frame: bytes) -> None:
        self.written.append(frame)


class Setup:
    """A merged session, and what it was lent."""

    def __init__(self, membership: Listed, shown: LiveStream | None = None) -> None:
        self.runs = PlayedRuns()
        self.feed = Feed()
        self.calls: list[str] = []
        self.errors: list[Exception] = []
        self.membership = membership
        self.session = MergedSession(
            FIRST,
            "",
            stream=shown or stream(),
            number=1,
            secret=b"secret",
            team="t",
            counts=TeamCounters(),
            grew=lambda delta: None,
            unforeseen=self.errors.append,
            runs=self.runs,
            membership=membership,
            ended=lambda session: self.calls.append("ended"),
            feed=self.feed,
            closed=lambda: self.calls.append("not needed"),
        )

    async def begin(self, *listening: str) -> None:
        """Start it, and wait until it listens to these runs and sends what comes."""
        self.session.start()
        await self.session.ready()
        await self.listens(*listening)
        await until(lambda: self.session._live)

    async def listens(self, *runs: str) -> None:
        await until(lambda: all(run in self.runs.leased and self.runs.leased[run].listeners for run in runs))

    def say(self, run: str, *items: Item) -> None:
        self.runs.leased[run].say(*items)

    @property
    def sent(self) -> list[str]:
        """The data of the frames so far; the type of a control frame."""
        frames = [frame.body.decode() for frame in self.session._dispatcher.channel.backlog.read(0)]
        return [
            next(line for line in frame.split("\n") if line.startswith("data: "))[6:].strip('"')
            for frame in frames
        ]


Make = Callable[..., Setup]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Setup] = []

    def one(membership: Listed, shown: LiveStream | None = None) -> Setup:
        made.append(Setup(membership, shown))
        return made[-1]

    yield one
    for each in made:
        each.session.drop()
    await rest()


# -- when items are sent --


async def test_what_is_from_the_past_is_sorted_and_what_comes_later_is_sent_at_once(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.past = {FIRST, SECOND}
    membership.settle_time = 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND)
    setup.say(SECOND, happened(SECOND, at=1))
    await rest()
    assert setup.sent == [], "the first run may have something earlier"
    setup.say(FIRST, happened(FIRST, at=2))
    await until(lambda: setup.sent == [SECOND, FIRST])
    setup.say(FIRST, happened(FIRST, at=9))
    assert setup.sent == [SECOND, FIRST, FIRST], "in the same turn of the loop"


async def test_an_old_run_is_waited_for_longer_than_one_that_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_session, "SORTING", 0.0)
    membership = Listed(FIRST, SECOND, THIRD)
    membership.past = {SECOND}
    membership.settle_time = 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND, THIRD)
    setup.say(FIRST, happened(FIRST, at=2))
    await rest()
    assert setup.sent == []
    setup.say(SECOND, happened(SECOND, at=1))
    await until(lambda: setup.sent == [SECOND, FIRST], "the third one, which is silent, is not waited for")


async def test_all_that_speak_soon_are_sorted_also_runs_that_go_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_session, "SORTING", 30.0)
    membership = Listed(FIRST, SECOND)
    membership.settle_time = 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND)
    setup.say(SECOND, happened(SECOND, at=2))
    await rest()
    setup.say(FIRST, happened(FIRST, at=1))
    await until(lambda: setup.sent)
    assert setup.sent == [FIRST, SECOND]


@pytest.mark.parametrize("live", [False, True], ids=["from the past", "live"])
async def test_an_item_that_is_held_holds_back_its_own_run_alone(make: Make, live: bool) -> None:
    membership = Listed(FIRST, SECOND)
    if not live:
        membership.past, membership.settle_time = {FIRST, SECOND}, 30.0
    setup = make(membership)
    held = happened(FIRST, "step_completed", at=1)
    membership.held.append(held)
    if live:
        await setup.begin(FIRST, SECOND)
    else:
        setup.session.start()
        await setup.listens(FIRST, SECOND)
    setup.say(FIRST, held, happened(FIRST, at=3))
    setup.say(SECOND, happened(SECOND, at=2))
    await until(lambda: setup.sent == [SECOND])
    setup.say(FIRST, happened(FIRST, at=4))
    await rest()
    assert setup.sent == [SECOND], "what follows waits too"
    membership.settled.set()
    await until(lambda: setup.sent == [SECOND, FIRST, FIRST, FIRST])
    assert setup.errors == []


async def test_an_error_while_an_item_is_held_is_reported_and_the_item_is_sent(make: Make) -> None:
    membership = Listed(FIRST)
    membership.settling = ZeroDivisionError()
    setup = make(membership)
    await setup.begin(FIRST)
    membership.held.append(happened(FIRST))
    setup.say(FIRST, happened(FIRST))
    membership.settled.set()
    await until(lambda: setup.sent == [FIRST])
    assert setup.errors == [membership.settling]


async def test_a_run_that_is_found_twice_belongs_to_it_once(make: Make) -> None:
    setup = make(Listed(FIRST, FIRST))
    await setup.begin(FIRST)
    member = setup.session.members[FIRST]
    setup.session.add(FIRST, created_at=7)
    assert setup.session.members == {FIRST: member}
    assert len(setup.runs.leased[FIRST].listeners) == 1


async def test_the_name_of_a_runs_workflow_is_known_before_its_items_where_a_rule_shows_it(
    make: Make,
) -> None:
    plain, named = make(Listed(FIRST)), make(Listed(FIRST), stream("workflow"))
    for each in (plain, named):
        await each.begin(FIRST)
    assert plain.runs.leased[FIRST].workflow is None
    assert named.runs.leased[FIRST].workflow == "w"


# -- runs whose state cannot be read --


async def test_a_run_whose_state_cannot_be_read_is_asked_for_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_session, "JOIN_PAUSE", 0.0)
    setup = make(Listed(FIRST))
    setup.runs.troubles[FIRST] = [HatchetAway("not now"), HatchetAway("not yet")]
    await setup.begin(FIRST)
    setup.say(FIRST, happened(FIRST))
    assert setup.sent == [FIRST]


async def test_a_listed_run_that_does_not_exist_holds_nothing_up(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.past, membership.settle_time = {FIRST, SECOND}, 30.0
    setup = make(membership)
    setup.runs.troubles[FIRST] = [RunUnknown("no such run")] * 1000
    setup.session.start()
    await setup.listens(SECOND)
    setup.say(SECOND, happened(SECOND))
    await until(lambda: setup.sent == [SECOND])
    gone = setup.session.members[FIRST]
    assert gone.over
    assert gone.ended.is_set()
    assert setup.runs.released == [FIRST], "it is not followed"
    assert [run.run_id for run in setup.feed.attached] == [SECOND]


async def test_few_states_are_read_at_the_same_time(make: Make) -> None:
    many = [f"{FIRST[:-4]}{number:04d}" for number in range(3 * JOINS_AT_ONCE)]
    setup = make(Listed(*many))
    reading, gate = 0, asyncio.Event()

    async def first_state(self: PlayedSession, patience: float) -> CoreState:
        nonlocal reading
        reading += 1
        await gate.wait()
        reading -= 1
        return CoreState(self.run_id, Status.RUNNING, False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlayedSession, "first_state", first_state)
        setup.session.start()
        await rest()
        assert reading == JOINS_AT_ONCE
        gate.set()
        await setup.listens(*many)


# -- it cannot begin --


@pytest.mark.parametrize(("trouble", "reported"), [(HatchetAway("away"), False), (ZeroDivisionError(), True)])
async def test_trouble_with_the_list_is_hatchets_and_ends_the_session(
    make: Make, trouble: Exception, reported: bool
) -> None:
    membership = Listed(FIRST)
    membership.trouble = trouble
    setup = make(membership)
    setup.session.start()
    with pytest.raises(HatchetError):
        await setup.session.ready()
    assert setup.session.closed
    assert setup.calls == ["ended"]
    assert setup.errors == ([trouble] if reported else [])
    assert membership.watching == []


async def test_a_session_that_is_closed_before_it_is_ready_says_that_hatchet_is_away(make: Make) -> None:
    setup = make(Listed(FIRST))
    asking = asyncio.ensure_future(setup.session.ready())
    await rest()
    setup.session.drop()
    with pytest.raises(HatchetAway):
        await asking


async def test_a_client_of_a_session_that_has_to_begin_anew_does_not_stay_with_it(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    setup.session.lost(setup.session.members[FIRST])
    with pytest.raises(HatchetAway):
        await setup.session.ready()


# -- too many runs --


async def test_clients_of_a_stream_that_grows_too_large_are_told_to_wait_and_it_ends(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    client = Client()
    setup.session._dispatcher.subscribers.add(cast(Any, client))
    setup.runs.room = 1
    setup.session.add(SECOND)
    setup.session._dispatcher.subscribers.clear()
    assert b"event: stream.wait\n" in client.written[0]
    assert b'{"cause":"limit"}' in client.written[0]
    assert setup.session.closed
    assert setup.calls == ["ended"]
    assert SECOND not in setup.session.members
    setup.session.add(THIRD)
    assert setup.calls == ["ended"], "once"
    with pytest.raises(TooManyRuns):
        await setup.session.ready()


async def test_runs_that_are_not_followed_count_for_the_most_that_a_stream_shows(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    setup.runs.room = 1
    for number in range(1, MOST_RUNS):
        setup.session.add(f"{number:036d}", followed=False)
    assert not setup.session.closed, "a run that is not followed needs no room"
    setup.session.add("one more", followed=False)
    assert setup.session.closed


# -- permission --


async def test_a_reader_that_is_gone_is_not_asked_about_later_runs(make: Make) -> None:
    setup = make(Listed(FIRST))
    await setup.begin(FIRST)
    refused: list[str] = []
    for name in ("stays", "leaves"):
        setup.session.guards.add(name, lambda state: False, lambda name=name: refused.append(name))  # type: ignore[misc]
    setup.session.guards.remove("leaves")
    setup.session.guards.remove("leaves")
    setup.session.add(SECOND)
    await until(lambda: refused)
    await setup.listens(SECOND)
    assert refused == ["stays"]


async def test_where_the_first_run_speaks_for_all_no_reader_is_asked(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.guarded = False
    setup = make(membership)
    refused: list[str] = []
    setup.session.guards.add("one", lambda state: False, lambda: refused.append("one"))
    await setup.begin(FIRST, SECOND)
    assert refused == []
    assert setup.session.is_open_to(lambda state: False)


# -- what it was lent, and the end --


async def test_the_end_of_the_run_that_decides_ends_the_stream_and_gives_everything_back(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    membership.decides = FIRST
    setup = make(membership)
    await setup.begin(FIRST, SECOND)
    assert membership.watching == ["begun"]
    assert {run.run_id for run in setup.feed.attached} == {FIRST, SECOND}
    first, second = setup.runs.leased[FIRST], setup.runs.leased[SECOND]
    second.say(End("failed"))
    assert not setup.session.over
    assert setup.runs.released == [SECOND]
    assert setup.feed.attached == [first]
    first.say(happened(FIRST), End("completed"))
    assert (setup.session.over, setup.session.status) == (True, "completed")
    assert sorted(setup.runs.released) == [FIRST, SECOND]
    assert setup.runs.at_once == set(), "other clients may want them"
    assert (first.listeners, second.listeners, setup.feed.attached) == ([], [], [])
    assert setup.calls == ["not needed", "ended"]
    await rest()
    assert membership.watching == ["begun", "ended"]
    frames = len(setup.sent)
    setup.session.announce(StepGap(GapCause.UPSTREAM, None, None, None))
    setup.session.add(THIRD)
    await rest()
    assert len(setup.sent) == frames, "nothing follows the end"
    assert THIRD not in setup.session.members
    assert not setup.session.closed


async def test_a_session_that_is_dropped_gives_everything_back_at_once(make: Make) -> None:
    membership = Listed(FIRST, SECOND)
    setup = make(membership)
    await setup.begin(FIRST, SECOND)
    setup.session.drop()
    setup.session.drop()
    assert sorted(setup.runs.released) == [FIRST, SECOND]
    assert setup.runs.at_once == {FIRST, SECOND}
    assert setup.feed.attached == []
    assert setup.calls == ["not needed"]
    await rest()
    assert membership.watching == ["begun", "ended"]


async def test_a_session_begins_anew_once_where_one_of_its_runs_does(make: Make) -> None:
    setup = make(Listed(FIRST, SECOND))
    await setup.begin(FIRST, SECOND)
    for run in (FIRST, SECOND):
        for listener in setup.runs.leased[run].listeners:
            listener.dropped()
    assert setup.session.closed
    assert setup.calls == ["ended"]
    setup.say(SECOND, happened(SECOND))
    setup.session.announce(StepGap(GapCause.UPSTREAM, None, None, None))
    assert setup.sent == []


async def test_it_is_caught_up_when_the_past_was_sent_and_the_end_too_if_the_run_that_decides_is_over(
    make: Make,
) -> None:
    membership = Listed(FIRST, SECOND)
    membership.decides = FIRST
    membership.past, membership.settle_time = {FIRST, SECOND}, 30.0
    setup = make(membership)
    setup.session.start()
    await setup.listens(FIRST, SECOND)
    assert not setup.session.caught_up
    for run in (FIRST, SECOND):
        setup.say(run, happened(run))
    await until(lambda: len(setup.sent) == 2)
    assert setup.session.caught_up
    setup.runs.leased[FIRST].state = CoreState(FIRST, Status.COMPLETED, True)
    assert not setup.session.caught_up, "its end is still to come"
    setup.say(FIRST, End("completed"))
    assert setup.session.caught_up


async def test_what_is_rebuilt_is_of_all_runs_in_the_order_of_their_creation(make: Make) -> None:
    setup = make(Listed(FIRST, SECOND))
    await setup.begin(FIRST, SECOND)
    setup.session.members[FIRST].created_at = 9
    for run in (FIRST, SECOND):
        setup.runs.leased[run].lifecycle = [happened(run)]
    setup.session.members[SECOND].parent = {"step": "s"}
    rebuilt = await setup.session._rebuild()
    assert [(event.run_id, event.parent) for event in rebuilt] == [(SECOND, {"step": "s"}), (FIRST, None)]
