"""Run sessions: streams that open late, replays, and what happens to clients when one is dropped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from config.model.files import BacklogConfig, RuleConfig, StreamConfig
from proxy.core.events import End, Event
from proxy.core.observations import CoreState, PastState, Status
from proxy.hatchet.errors import HatchetAway, HistoryAway, RunUnknown
from proxy.log.contents import Contents
from proxy.log.fences import Fence, Fences, new_generation
from proxy.observability.counters import TeamCounters
from proxy.rules.ruleset import Rules
from proxy.runs.reconcile.rebuild import rebuild
from proxy.streams.backlog import Backlog
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.message_writer import Start
from proxy.streams.retained import RetainedItem
from proxy.streams.run_queries import LOOKUP_PAUSE
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream
from proxy.streams.subscriber import Ending, Subscriber
from tests.support.fakes import FakeUpstream
from tests.support.streams import stream_of
from tests.support.waiting import until
from tests.unit.streams.test_dispatcher import RUN, BufferSink, EndingsOf, chunk, completed


def stream(name: str = "s") -> LiveStream:
    rule = RuleConfig(name="rules[0]", events=("*", "step_stream"), data="payload")
    config = StreamConfig(name=name, path="/{workflowRunId}", rules=(rule,), backlog=BacklogConfig())
    return LiveStream(config, Rules(config), None, cast(Any, None))


class ScriptedRun:
    """A follower whose state the test gives."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[CoreState] = asyncio.get_running_loop().create_future()
        self.asked = 0
        self.workflow: str | None = None
        self.replaced = False

    def name_workflow(self, name: str) -> None:
        self.workflow = name

    def start(self) -> None:
        """The test publishes."""

    async def is_replaced(self) -> bool:
        return self.replaced

    async def first_state(self) -> CoreState:
        self.asked += 1
        return await self.answer


def session(
    upstream: FakeUpstream | None = None,
    events: int = 1000,
    grew: Callable[[int], None] = lambda delta: None,
) -> RunSession:
    one = RunSession(
        RUN,
        team="t",
        number=1,
        secret=b"secret",
        upstream=upstream or FakeUpstream(has_history=False),
        counts=TeamCounters(),
        retained=Backlog[RetainedItem](events, 1 << 20, grew),
        grew=grew,
        ended=lambda ended: None,
    )
    one.begin(cast(Any, ScriptedRun()))
    return one


def join(to: Dispatcher) -> tuple[BufferSink, list[Ending]]:
    sink, owner = BufferSink(), EndingsOf(to)
    owner.subscriber = Subscriber(to.channel, sink, Start(0), owner)
    to.add(owner.subscriber)
    owner.subscriber.start()
    return sink, owner.endings


def state(*, done: bool = False) -> CoreState:
    return CoreState(RUN, Status.COMPLETED if done else Status.RUNNING, done, ())


async def test_a_stream_that_is_opened_late_begins_with_the_retained_items() -> None:
    one = session()
    one.publish([chunk("a"), chunk("b", 1)])
    sink, _ = join(await one.open(stream()))
    assert sink.data == ['"a"', '"b"']


async def test_items_that_no_backlog_holds_any_more_are_a_gap_for_a_late_stream() -> None:
    one = session(events=4)
    one.publish([chunk(str(number), number) for number in range(10)])
    sink, _ = join(await one.open(stream()))
    assert sink.data[0] == '{"cause":"backlog","step":"draft","attempt":1,"missed":6}'
    assert sink.data[1:] == ['"6"', '"7"', '"8"', '"9"']


async def test_forgotten_events_that_the_state_does_not_show_are_a_gap_for_a_late_stream() -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = state()
    one = session(upstream, events=4)
    one.publish([completed(f"step {number}") for number in range(10)])
    sink, _ = join(await one.open(stream()))
    assert '{"cause":"backlog","step":null,"attempt":null,"missed":null}' in sink.data


async def test_on_a_shared_log_events_that_the_state_does_not_show_are_a_gap_for_a_late_stream() -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = state()
    one = session(upstream, events=4)
    one.share(Fences(new_generation(1_790_000_000_000, "x"), [Fence(1_790_000_000_000, 1, "a")]), Contents())
    one.publish([completed(f"step {number}") for number in range(10)])
    sink, _ = join(await one.open(stream()))
    gap = '{"cause":"backlog","step":null,"attempt":null,"missed":null}'
    assert sink.data.count(gap) == 1


async def cursors_at(session_: RunSession, before: int, items: list[Event]) -> list[bytes]:
    """The cursors that a client receives of a session that begins after position `before` of a log."""
    session_.share(
        Fences(new_generation(1_790_000_000_000, "x"), [Fence(1_790_000_000_000, 1, "a")]), Contents()
    )
    session_.begin_after(before, Contents() if before else None)
    sink, _ = join(await session_.open(stream()))
    session_.publish(items[before:])
    await until(lambda: len(sink.data) == len(items) - before)
    return re.findall(rb"^id: (.*)$", sink.written, re.M)


async def test_two_replicas_give_an_item_the_cursor_of_its_position_in_the_shared_log() -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = state()
    items = [chunk(str(number), number) for number in range(5)]
    early, late = await cursors_at(session(), 0, items), await cursors_at(session(upstream), 2, items)
    assert early[2:] == late


async def test_the_trace_context_of_a_run_is_known_once_its_state_is() -> None:
    one = session()
    assert one.traceparent is None
    one.state = CoreState(RUN, Status.RUNNING, False, (), {"traceparent": "00-1-2-01"})
    assert one.traceparent == "00-1-2-01"


async def test_dropping_a_run_ends_its_clients_and_nothing_is_published_after_that() -> None:
    one, streams = session(), [stream("s"), stream("other")]
    one.publish([chunk("early")])
    joined = [join(await one.open(each)) for each in streams]
    for sink, _ in joined:
        sink.written = b""
    one.drop()
    assert [endings for _, endings in joined] == [[Ending.DROPPED], [Ending.DROPPED]]
    one.publish([chunk("late")])
    assert all(sink.written == b"" for sink, _ in joined)
    assert one.bytes == 0
    with pytest.raises(HatchetAway):
        await one.open(streams[0])


def of_format(form: str) -> LiveStream:
    part = ", as: text" if form != "sse" else ", data: payload"
    config = stream_of(f"- {{events: step_stream{part}}}", form)
    return LiveStream(config, Rules(config), None, cast(Any, None))


@pytest.mark.parametrize("form", ["sse", "ai-sdk", "openai", "text"])
async def test_every_byte_that_was_counted_is_given_back_with_the_stream_and_with_the_run(form: str) -> None:
    counted: list[int] = []
    one = session(grew=counted.append)
    one.publish([chunk("a long text " * 10, number) for number in range(5)])
    retained = sum(counted)
    await one.open(of_format(form))
    assert sum(counted) == one.bytes > retained > 0
    one.close_streams_except(())
    assert sum(counted) == one.bytes == retained
    await one.open(of_format(form))
    one.drop()
    assert sum(counted) == one.bytes == 0


@pytest.mark.parametrize("form", ["sse", "ai-sdk"])
async def test_what_is_kept_shrinks_in_every_backlog_of_the_run(form: str) -> None:
    one = session()
    channels = [(await one.open(each)).channel for each in (of_format(form), stream("other"))]
    one.publish([chunk("a long text " * 10, number) for number in range(100)])
    before, held = one.bytes, [channel.held for channel in channels]
    assert one.evicted == 0
    one.shrink(before // 2)
    assert before // 4 < one.bytes <= before // 2
    assert one.evicted > 0
    assert all(channel.held < most for channel, most in zip(channels, held, strict=True))


async def test_only_the_clients_of_removed_streams_are_dropped() -> None:
    one, kept, removed = session(), stream("kept"), stream("removed")
    (_, kept_endings), (_, removed_endings) = join(await one.open(kept)), join(await one.open(removed))
    one.close_streams_except({"kept"})
    assert (kept_endings, removed_endings) == ([], [Ending.DROPPED])
    assert one.opened(kept) is not None
    assert one.opened(removed) is None


async def test_a_wait_for_the_state_of_a_dropped_run_ends_with_hatchet_away() -> None:
    one = session()
    waiting = [asyncio.create_task(one.first_state(10.0)) for _ in range(2)]
    await asyncio.sleep(0)
    one.drop()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [HatchetAway, HatchetAway]


async def test_a_client_that_stops_waiting_for_the_state_leaves_the_others_waiting() -> None:
    one = session()
    run = cast(ScriptedRun, one.run)
    first, second = (asyncio.create_task(one.first_state(10.0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    run.answer.set_result(state())
    assert await second == state()
    assert run.asked == 1
    assert first.cancelled()


async def test_without_patience_a_run_that_does_not_exist_is_looked_up_once() -> None:
    one = session()
    run = cast(ScriptedRun, one.run)
    run.answer.set_exception(RunUnknown("no such run"))
    with pytest.raises(RunUnknown):
        await one.first_state(0.0)
    assert run.asked == 1


async def test_a_run_that_does_not_exist_is_looked_up_again_until_the_patience_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = session()
    run = cast(ScriptedRun, one.run)
    run.answer.set_exception(RunUnknown("no such run"))
    loop, pauses = asyncio.get_running_loop(), list[float]()
    began = now = loop.time()

    async def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr("proxy.streams.run_queries.asyncio.sleep", sleep)
    with pytest.raises(RunUnknown):
        await one.first_state(0.5)
    assert run.asked == len(pauses) + 1
    assert pauses == pytest.approx([LOOKUP_PAUSE, LOOKUP_PAUSE, 0.5 - 2 * LOOKUP_PAUSE])
    assert now - began == pytest.approx(0.5)


async def test_a_run_that_was_dropped_is_not_looked_up_again() -> None:
    one = session()
    run = cast(ScriptedRun, one.run)
    run.answer.set_exception(RunUnknown("no such run"))
    one.drop()
    with pytest.raises(RunUnknown):
        await one.first_state(1e6)
    assert run.asked == 1


async def over(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> RunSession:
    """A session whose run is over, at a time when a replay may be asked for again."""
    one = session(upstream)
    one.publish([*rebuild(state(done=True), None), End("completed")])
    monkeypatch.setattr("proxy.streams.run_queries.REPLAY_CHECK", 0.0)
    return one


@pytest.mark.parametrize(("done", "replayed"), [(True, False), (False, True)])
async def test_a_run_that_was_over_and_goes_on_was_replayed(
    monkeypatch: pytest.MonkeyPatch, *, done: bool, replayed: bool
) -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = state(done=done)
    one = await over(upstream, monkeypatch)
    assert await one.replayed() is replayed


async def test_a_run_whose_shared_log_is_another_one_by_now_counts_as_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = state(done=True)
    one = await over(upstream, monkeypatch)
    cast(ScriptedRun, one.run).replaced = True
    assert await one.replayed()


async def test_without_an_answer_a_run_counts_as_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = HatchetAway("down")
    one = await over(upstream, monkeypatch)
    assert await one.replayed() is False


async def test_the_last_answer_is_believed_for_a_while() -> None:
    upstream = FakeUpstream(has_history=False)
    upstream.cores[RUN] = state()
    one = session(upstream)
    one.publish([End("completed")])
    assert await one.replayed() is False
    assert upstream.calls == []


async def test_the_workflows_name_is_read_until_the_history_knows_the_run() -> None:
    upstream = FakeUpstream()
    one = session(upstream)
    naming = asyncio.ensure_future(one.named(5))
    await asyncio.sleep(0)
    upstream.pasts[RUN] = PastState(RUN, Status.RUNNING, (), workflow="chat")
    assert await naming == "chat"
    assert one.workflow == "chat"


async def test_a_name_that_the_history_never_shows_is_an_error_after_the_patience() -> None:
    one = session(FakeUpstream())
    with pytest.raises(HistoryAway):
        await one.named(0)


async def test_items_from_before_the_name_was_known_have_it_on_a_stream_that_is_opened_later() -> None:
    one = session()
    one.publish([completed("start")])
    cast(Any, one.run).name_workflow("chat")
    rule = RuleConfig(name="r", events=("*",), workflows=("chat",), data={"w": "workflow"})
    config = StreamConfig(name="w", path="/{workflowRunId}", rules=(rule,), backlog=BacklogConfig())
    dispatcher = await one.open(LiveStream(config, Rules(config), None, cast(Any, None)))
    body, _ = dispatcher.channel.batch(0)
    assert b'{"w":"chat"}' in body
