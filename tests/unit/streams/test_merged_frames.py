"""`merge` in a channel: fewer frames, the same text, for every reader and from every cursor."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from proxy.core.events import End, Event, Flush, GapCause, Item, LogItem, StepGap
from proxy.formats.wire import machine_of, wire_of
from proxy.log.contents import Contents
from proxy.log.cursor import read_cursor
from proxy.log.fences import Fence, Fences, new_generation
from proxy.log.frames import LocalFrames
from proxy.observability.counters import StreamCounters
from proxy.rules.merging import Merging, Ready
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream
from tests.support.formats import FACTS, UiMessage
from tests.support.streams import StreamRules, stream_of
from tests.support.waiting import until
from tests.unit.streams.test_dispatcher import RUN, BufferSink, join
from tests.unit.streams.test_run_session import session

RULES = """
    - {events: step_stream, steps: answer, merge: 20ms,
       data: {first: first_index, last: index, text: payload}}
    - {events: step_completed, data: type}
"""


def chunk(text: str, index: int) -> Event:
    return Event("step_stream", RUN, "answer", "id-answer", text, 1, index)


def completed(output: Any = None) -> Event:
    return Event("step_completed", RUN, "answer", "id-answer", output, 1)


def dispatcher(rules: str = RULES, form: str = "sse", events: int = 1000) -> Dispatcher:
    async def nothing() -> list[Event]:
        return []

    stream_rules = StreamRules(rules, form)
    ids = LocalFrames(b"secret", team="t", stream="s", run_id=RUN, value="", rules="r", session=1)
    machine = None if form == "sse" else machine_of(form, FACTS, failed=stream_rules.rules.failed)
    channel = Channel(
        stream_rules.rules, ids, Backlog[Frame](events, 1 << 20), StreamCounters(), rebuild=nothing,
        wire=wire_of(form), machine=machine,
    )  # fmt: skip
    return Dispatcher(channel, heartbeat=15.0)


def texts(sink: BufferSink) -> list[Any]:
    return [json.loads(data) for data in sink.data]


async def test_the_frames_come_when_the_time_is_over_and_only_then() -> None:
    one = dispatcher()
    _, sink = join(one)
    one.publish([chunk("a", 0)])
    one.publish([chunk("b", 1)])
    assert one.channel.backlog.last == 0
    await until(lambda: sink.data)
    one.publish([chunk("c", 2)])
    await until(lambda: len(sink.data) == 2)
    assert texts(sink) == [{"first": 0, "last": 1, "text": "ab"}, {"first": 2, "last": 2, "text": "c"}]
    assert sink.ids == [1, 2]


async def test_a_reader_that_comes_back_while_chunks_wait_gets_every_chunk_once() -> None:
    one = dispatcher()
    one.publish([chunk("a", 0), chunk("b", 1)])
    await until(lambda: one.channel.backlog.last == 1)
    one.publish([chunk("c", 2)])
    cursor = read_cursor(one.channel.ids.at(1).decode())
    start = one.channel.start(cursor, came_back=True)
    _, sink = join(one, start.place, gap=start.gap)
    one.publish([chunk("d", 3), completed(), End("completed")])
    await until(lambda: len(sink.data) == 3)
    assert texts(sink) == [{"first": 2, "last": 3, "text": "cd"}, "step_completed", {"status": "completed"}]


async def test_a_reader_that_comes_while_chunks_wait_gets_them_with_the_next_frame() -> None:
    one = dispatcher()
    one.publish([chunk("a", 0)])
    _, sink = join(one)
    assert sink.data == []
    one.publish([chunk("b", 1), completed()])
    await until(lambda: len(sink.data) == 2)
    assert texts(sink) == [{"first": 0, "last": 1, "text": "ab"}, "step_completed"]


async def test_a_stream_that_is_opened_late_merges_what_it_makes_up_for() -> None:
    run = session()
    run.publish([chunk("a", 0), chunk("b", 1), completed(), End("completed")])
    config = stream_of(RULES)
    rules = StreamRules(RULES).rules
    opened = await run.open(LiveStream(config, rules, None, None))  # type: ignore[arg-type]
    _, sink = join(opened)
    assert texts(sink) == [{"first": 0, "last": 1, "text": "ab"}, "step_completed", {"status": "completed"}]


async def test_cursors_of_a_stream_that_was_removed_and_added_again_are_unknown() -> None:
    """Merged frames depend on when the chunks came, so the same number may be another place."""
    run = session()
    live = LiveStream(stream_of(RULES), StreamRules(RULES).rules, None, None)  # type: ignore[arg-type]
    first = await run.open(live)
    cursor = read_cursor(first.channel.ids.at(1).decode())
    assert cursor is not None
    assert run.holds(live, cursor)
    run.close_streams_except([])
    await run.open(live)
    assert not run.holds(live, cursor)


async def test_chunks_that_were_evicted_are_counted_one_by_one() -> None:
    one = dispatcher(events=1)
    one.publish([chunk("a", 0), chunk("b", 1), chunk("c", 2), completed(), completed()])
    losses = one.channel.backlog.losses(0)
    assert [(loss.step, loss.attempt, loss.missed) for loss in losses] == [("answer", 1, 3)]


@pytest.mark.parametrize(
    ("output", "sent"),
    [("abc", ["ab", "c"]), ("ab", ["ab"]), ("xy", ["ab", "reset", "xy"])],
)
async def test_merged_text_is_compared_with_the_output(output: str, sent: list[str]) -> None:
    rules = "- {events: step_stream, steps: answer, merge: 1s, whole: payload.text, data: payload}"
    one = dispatcher(rules)
    _, sink = join(one)
    gap = StepGap(GapCause.UPSTREAM, "answer", 1, None)
    one.publish([chunk("a", 0), gap, chunk("b", 1), completed({"text": output})])
    await until(lambda: len(sink.data) == len(sent))
    found = [data if isinstance(data, str) else "reset" for data in texts(sink)]
    assert found == sent


async def test_a_format_shows_the_same_text() -> None:
    one = dispatcher("- {events: step_stream, steps: answer, merge: 20ms, as: text}", "ai-sdk")
    _, sink = join(one)
    items: list[Item] = [chunk(text, n) for n, text in enumerate(("Hel", "lo, ", "you"))]
    one.publish(items[:2])
    await until(lambda: b"Hello" in sink.written)
    late = one.channel.start(None, came_back=False)
    one.publish([items[2], completed(), End("completed")])
    await until(lambda: b"[DONE]" in sink.written)
    blocks = [line.encode() for line in sink.written.decode().split("\n") if line.startswith("data: ")]
    shown = UiMessage().read(start_block(late.opening) + blocks)
    assert list(shown.texts.values()) == ["Hello, you"]
    assert sum(b"text-delta" in block for block in blocks) == 2


def start_block(opening: bytes) -> list[bytes]:
    return [line for line in opening.split(b"\n") if line.startswith(b"data: ") and b'"start"' in line]


async def test_an_error_in_merging_costs_chunks_and_never_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[Ready]:
        raise ValueError

    monkeypatch.setattr(Merging, "take", fail)
    one = dispatcher()
    _, sink = join(one)
    one.publish([chunk("a", 0), End("completed")])
    await until(lambda: sink.data)
    assert sink.data == ['{"status":"completed"}']


async def test_a_slow_reader_of_a_format_gets_the_rest_of_the_message() -> None:
    one = dispatcher("- {events: step_stream, steps: answer, as: text}", "ai-sdk", events=3)
    start = one.channel.start(None, came_back=False)
    reader, sink = join(one, start.place, room=0)
    words = [str(number) for number in range(10)]
    one.publish([chunk(words[0], 0)])
    await until(lambda: sink.written)
    one.publish([chunk(word, number) for number, word in enumerate(words[1:], 1)])
    assert not one.channel.backlog.reaches(reader.place), "frames were evicted that it has not read"
    sink.resume()
    one.publish([completed(), End("completed")])
    await until(lambda: b"[DONE]" in sink.written)
    blocks = [line.encode() for line in sink.written.decode().split("\n") if line.startswith("data: ")]
    assert list(UiMessage().read(start_block(start.opening) + blocks).texts.values()) == ["".join(words)]


async def test_a_dispatcher_that_is_closed_sends_nothing_more() -> None:
    one = dispatcher()
    one.publish([chunk("a", 0)])
    one.close()
    await asyncio.sleep(0.03)  # longer than the merge: what would come is here then
    assert one.channel.backlog.last == 0


def shared(fences: Fences) -> RunSession:
    run = session()
    run.share(fences, Contents())
    run.ask_flush = lambda milliseconds: None
    return run


FENCES: Final = Fences(new_generation(1, "abc"), [Fence(1, 1, "a")])


async def test_with_a_shared_log_frames_and_cursors_are_those_of_the_log_whenever_chunks_come() -> None:
    live = LiveStream(stream_of(RULES), StreamRules(RULES).rules, None, None)  # type: ignore[arg-type]
    items: list[LogItem] = [chunk("a", 0), chunk("b", 1), Flush(20), chunk("c", 2), Flush(20), completed()]
    slow, late = shared(FENCES), shared(FENCES)
    opened = await slow.open(live)
    for item in items:
        slow.publish([item])
        await asyncio.sleep(0.03)  # longer than `merge`
    late.publish(items)
    backlogs = [opened.channel.backlog, (await late.open(live)).channel.backlog]
    first, second = ([frame.body for frame in backlog.read(0)] for backlog in backlogs)
    assert first == second
    assert len(first) == 3


async def test_a_flush_that_does_not_come_is_asked_for() -> None:
    asked: list[int] = []
    run = shared(FENCES)
    run.ask_flush = asked.append
    opened = await run.open(LiveStream(stream_of(RULES), StreamRules(RULES).rules, None, None))  # type: ignore[arg-type]
    run.publish([chunk("a", 0)])
    await until(lambda: asked == [20])
    assert opened.channel.backlog.last == 0
    run.publish([Flush(20)])
    assert opened.channel.backlog.last == 1


async def test_a_replica_that_began_late_knows_cursors_from_the_first_flush_on() -> None:
    """Chunks that were merged with those before the first kept item are in frames of other replicas alone."""
    live = LiveStream(stream_of(RULES), StreamRules(RULES).rules, None, None)  # type: ignore[arg-type]
    items: list[LogItem] = [chunk("a", 0), completed(), chunk("b", 1), Flush(20), chunk("c", 2), Flush(20)]
    whole, late = shared(FENCES), shared(FENCES)
    opened = (await whole.open(live)).channel
    whole.publish(items)
    cursors = [read_cursor(opened.ids.at(place).decode()) for place in range(1, 5)]
    late.begin_after(1, None)
    channel = (await late.open(live)).channel
    late.publish(items[1:3])
    assert channel.start(cursors[1], came_back=True).gap is GapCause.UNKNOWN_CURSOR, "`a` may be missing"
    late.publish(items[3:])
    starts = [channel.start(cursor, came_back=True) for cursor in cursors[2:]]
    assert [(start.gap, channel.backlog.last - start.place) for start in starts] == [(None, 1), (None, 0)]


async def test_a_flush_that_is_evicted_is_missed_by_nobody() -> None:
    run = session(events=2)
    run.share(FENCES, Contents())
    run.publish([completed(), *[Flush(20)] * 5])
    assert [item for _, item in run.retained()] == [completed()]
    opened = await run.open(LiveStream(stream_of(RULES), StreamRules(RULES).rules, None, None))  # type: ignore[arg-type]
    _, sink = join(opened)
    assert texts(sink) == ["step_completed"]
