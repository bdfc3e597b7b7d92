"""Streams of several runs: which runs belong, which are followed, who is refused, what a new client gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from config.model.files import RuleConfig, StreamConfig
from proxy.core.events import End, Event, Reset, StepGap
from proxy.core.observations import PARENT_RUN, PARENT_STEP, CoreState, CoreStep, ListedRun, PastState, Status
from proxy.observability.counters import TeamCounters
from proxy.rules.ruleset import Rules
from proxy.streams.merged.membership import Member, Membership, TooManyRuns
from proxy.streams.merged.session import MOST_RUNS, MergedSession
from proxy.streams.stream import LiveStream
from proxy.teams.merged.conversation import Conversation
from proxy.teams.merged.family import Family
from proxy.teams.merged.newcomers import Newcomers
from tests.support.fakes import FakeUpstream
from tests.support.merged_runs import ScriptedRuns
from tests.support.waiting import until

ROOT = "00000000-0000-4000-8000-000000000001"
STEP = "00000000-0000-4000-8000-00000000000a"
DATA = {"type": "type", "run": "run_id", "parent": "parent.step"}


def child(number: int) -> str:
    return f"00000000-0000-4000-8000-{number + 100:012d}"


def metadata(parent: str = ROOT, step: str = STEP) -> dict[str, Any]:
    return {PARENT_RUN: parent, PARENT_STEP: step}


def stream(**rule: Any) -> LiveStream:
    rules = (RuleConfig(name="r", events=("*", "step_stream"), data=DATA, **rule),)
    config = StreamConfig(name="s", path="/{workflowRunId}", rules=rules, include=("children",))
    return LiveStream(config, Rules(config), None, cast(Any, None))


class Setup:
    """A merged session, and everything around it."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream()
        self.newcomers = Newcomers(self.upstream)
        self.runs = ScriptedRuns()
        self.ended = 0
        self.upstream.cores[ROOT] = CoreState(
            ROOT, Status.RUNNING, False, (CoreStep("spread", STEP, Status.RUNNING),)
        )

    def family(self, of: LiveStream | None = None) -> MergedSession:
        shown = of or stream()
        family = Family(ROOT, shown, upstream=self.upstream, newcomers=self.newcomers, live=True)
        return self.session(shown, family)

    def session(self, shown: LiveStream, membership: Membership) -> MergedSession:
        def ended(session: MergedSession) -> None:
            self.ended += 1

        self.made = MergedSession(
            ROOT,
            "",
            stream=shown,
            number=1,
            secret=b"secret",
            team="t",
            counts=TeamCounters(),
            grew=lambda delta: None,
            unforeseen=self.unforeseen,
            runs=self.runs,
            membership=membership,
            ended=ended,
        )
        self.made.start()
        return self.made

    def unforeseen(self, error: Exception) -> None:
        raise error

    def list(self, parent: str, *runs: ListedRun) -> None:
        self.upstream.listed[PARENT_RUN, parent] = [*runs]


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    one = Setup()
    yield one
    one.made.drop()
    await one.newcomers.close()


def sent(session: MergedSession) -> list[bytes]:
    """The data of the frames so far."""
    frames = session._dispatcher.channel.backlog.read(0)
    return [frame.body.split(b"data: ")[1].strip() for frame in frames]


async def test_children_of_children_belong_to_the_family_with_what_started_them(setup: Setup) -> None:
    setup.list(ROOT, ListedRun(child(1), "leaf", 1, metadata()))
    setup.list(child(1), ListedRun(child(2), "leaf", 2, metadata(child(1), child(1))))
    session = setup.family()
    await session.ready()
    await until(lambda: len(setup.runs.leased) == 3)
    assert session.members[child(1)].parent == {"run_id": ROOT, "step": "spread", "workflow": "w"}
    below = session.members[child(2)].parent
    assert below is not None
    assert below["run_id"] == child(1)


async def test_a_child_that_no_rule_forwards_is_not_followed_but_its_children_are(setup: Setup) -> None:
    setup.list(ROOT, ListedRun(child(1), "middle", 1, metadata()))
    setup.list(child(1), ListedRun(child(2), "leaf", 2, metadata(child(1), child(1))))
    session = setup.family(stream(workflows=("leaf", "root")))
    await session.ready()
    await until(lambda: child(2) in setup.runs.leased)
    assert child(1) not in setup.runs.leased
    assert child(1) in session.members


async def test_ten_thousand_children_are_refused_before_one_of_them_is_followed(setup: Setup) -> None:
    setup.list(ROOT, *(ListedRun(child(n), "leaf", n, metadata()) for n in range(10_000)))
    session = setup.family()
    with pytest.raises(TooManyRuns, match=f"at most {MOST_RUNS}"):
        await session.ready()
    assert set(setup.runs.leased) <= {ROOT}
    assert setup.ended == 1


async def test_children_beyond_the_limit_of_runs_are_refused(setup: Setup) -> None:
    setup.runs.room = 1
    setup.list(ROOT, *(ListedRun(child(n), "leaf", n, metadata()) for n in range(3)))
    session = setup.family()
    with pytest.raises(TooManyRuns, match=r"limits\.runs"):
        await session.ready()


async def test_a_run_that_a_subscription_brings_is_added_by_the_ids_in_its_metadata(setup: Setup) -> None:
    session = setup.family()
    await session.ready()
    setup.upstream.cores[child(7)] = CoreState(child(7), Status.RUNNING, False, metadata=metadata())
    setup.upstream.cores[child(8)] = CoreState(child(8), Status.RUNNING, False, metadata=metadata(child(9)))
    await asyncio.sleep(0)  # the membership begins to watch
    setup.newcomers.seen(child(7))
    setup.newcomers.seen(child(8))
    await until(lambda: child(7) in setup.runs.leased)
    assert child(8) not in session.members, "it is of another family"


async def test_a_childs_end_does_not_end_the_stream_and_its_gaps_and_resets_name_it(setup: Setup) -> None:
    setup.list(ROOT, ListedRun(child(1), "leaf", 1, metadata(), over=True))
    session = setup.family()
    await session.ready()
    await until(
        lambda: all(run.listeners for run in setup.runs.leased.values()) and len(setup.runs.leased) == 2
    )
    root, leaf = setup.runs.leased[ROOT], setup.runs.leased[child(1)]
    root.say(Event("step_started", ROOT, "spread", STEP, at="1970-01-01T00:00:01Z"))
    leaf.say(
        Event("step_started", child(1), "work", child(1), at="1970-01-01T00:00:02Z"),
        Reset("work", 2),
        Event("run_completed", child(1), at="1970-01-01T00:00:03Z"),
        End("completed"),
    )
    await until(lambda: len(sent(session)) == 4)
    assert sent(session)[2] == b'{"step":"work","attempt":2,"run_id":"%b"}' % child(1).encode()
    assert b'"parent":"spread"' in sent(session)[3]
    assert not session.over
    assert setup.runs.released == [child(1)]


async def test_the_roots_end_waits_until_the_history_has_it_and_then_looks_for_the_last_children(
    setup: Setup,
) -> None:
    session = setup.family()
    await session.ready()
    await until(lambda: ROOT in setup.runs.leased and setup.runs.leased[ROOT].listeners)
    setup.runs.leased[ROOT].say(Event("run_completed", ROOT), End("completed"))
    setup.upstream.pasts[ROOT] = PastState(ROOT, Status.RUNNING, ())
    await until(lambda: "past" in setup.upstream.calls)
    assert sent(session) == []
    setup.list(ROOT, ListedRun(child(1), "leaf", 1, metadata(), over=True))
    setup.upstream.cores[child(1)] = CoreState(child(1), Status.COMPLETED, True)
    setup.upstream.pasts[ROOT] = PastState(ROOT, Status.COMPLETED, ())
    await until(lambda: child(1) in setup.runs.leased and setup.runs.leased[child(1)].listeners)
    setup.runs.leased[child(1)].say(Event("run_completed", child(1)), End("completed"))
    await until(lambda: session.over)
    assert [child(1).encode() in data for data in sent(session)] == [True, False, False]
    assert session.status == "completed"


async def test_a_turn_that_a_readers_rules_refuse_ends_the_stream_of_that_reader_alone(setup: Setup) -> None:
    setup.upstream.listed["chat", "c"] = [ListedRun(ROOT, "turn", 1, {"chat": "c"})]
    conversation = Conversation(
        "chat", "c", None, upstream=setup.upstream, newcomers=setup.newcomers, most=None, live=True
    )
    session = setup.session(stream(), conversation)
    await session.ready()
    await until(lambda: session.states)
    refused: list[str] = []
    session.guards.add("one", lambda state: state.run_id == ROOT, lambda: refused.append("one"))
    session.guards.add("all", lambda state: True, lambda: refused.append("all"))
    assert session.is_open_to(lambda state: state.run_id == ROOT)
    session.add(child(1))
    await until(lambda: len(session.states) == 2)
    assert refused == ["one"]
    assert not session.is_open_to(lambda state: state.run_id == ROOT)


async def test_of_too_many_turns_the_newest_are_sent_after_a_gap(setup: Setup) -> None:
    rows = [ListedRun(child(n), "turn", n, {"chat": "c"}) for n in reversed(range(4))]
    rows.append(ListedRun(child(9), "leaf", 9, {"chat": "c", **metadata()}))
    setup.upstream.listed["chat", "c"] = rows
    conversation = Conversation(
        "chat", "c", None, upstream=setup.upstream, newcomers=setup.newcomers, most=3, live=True
    )
    session = setup.session(stream(), conversation)
    await session.ready()
    assert list(session.members) == [child(1), child(2), child(3)], "the oldest first, and no child"
    assert sent(session) == [b'{"cause":"backlog","step":null,"attempt":null,"missed":null}']


def test_an_item_of_a_member_says_which_run_it_is_of() -> None:
    one = Member(
        cast(Any, None), child(1), created_at=0, parent={"step": "s"}, parent_step=None, followed=True
    )
    event = one.marked(Event("run_completed", child(1)))
    assert isinstance(event, Event)
    assert event.parent == {"step": "s"}
    gap = one.marked(StepGap(cast(Any, "upstream"), "work", 1, None))
    assert isinstance(gap, StepGap)
    assert gap.run_id == child(1)
