"""Items of a run go in; every subscriber gets the same bytes, and a gap where it was too slow."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
import pytest

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.hatchet.errors import HatchetAway
from proxy.log.frames import LocalFrames
from proxy.observability.counters import StreamCounters
from proxy.rules.ruleset import Message
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import BATCH, Channel
from proxy.streams.dispatcher import MANY, PER_TURN_OF_MANY, SUBSCRIBERS_PER_TURN, Dispatcher
from proxy.streams.message_writer import Start
from proxy.streams.notices import MOST_NOTICES
from proxy.streams.subscriber import Ending, Subscriber
from tests.support.waiting import until

RUN = "d8ed70df-0872-463a-9a78-d6bd88db0b34"


class EverythingButHidden:
    """Rules that forward all steps but `hidden`, and count how often they are asked."""

    fingerprint = "f"
    repairs_texts = False
    merges = False

    def __init__(self) -> None:
        self.asked = 0

    def message(self, event: Event, sight: object = None) -> Message | None:
        self.asked += 1
        if event.step == "hidden":
            return None
        return Message("rules[0]", None, orjson.dumps([event.type, event.step, event.payload]))

    def forwards_chunks(self, step: str, workflow: str | None = None) -> bool:
        return step != "hidden"


class BufferSink:
    """A sink that keeps what is written; full once it holds `room` bytes, until `resume`."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.written = b""
        self.room = room
        self.subscriber: Subscriber | None = None

    def write(self, body: bytes) -> None:
        self.written += body
        if len(self.written) > self.room and self.subscriber is not None:
            self.subscriber.pause(0.0)

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        assert chunk == b"%x\r\n%b\r\n" % (len(body), body)
        self.write(body)

    def resume(self) -> None:
        self.room = 1 << 30
        assert self.subscriber is not None
        self.subscriber.resume()

    @property
    def data(self) -> list[str]:
        return re.findall(r"^data: (.*)$", self.written.decode(), re.M)

    @property
    def ids(self) -> list[int]:
        return [int(place) for place in re.findall(r"^id: .*\.(\d+)$", self.written.decode(), re.M)]


def chunk(text: str, index: int = 0, step: str = "draft", attempt: int = 1) -> Event:
    return Event("step_stream", RUN, step, "id-" + step, text, attempt, index)


def completed(step: str) -> Event:
    return Event("step_completed", RUN, step, "id-" + step, {}, 1)


def dispatcher(
    events: int = 1000,
    size: int = 1 << 20,
    rebuild: Callable[[], Coroutine[Any, Any, list[Event]]] | None = None,
    heartbeat: float = 15.0,
    unforeseen: Callable[[Exception], None] | None = None,
) -> Dispatcher:
    async def nothing() -> list[Event]:
        return []

    ids = LocalFrames(b"secret", team="t", stream="s", run_id=RUN, value="", rules="r", session=1)
    channel = Channel(
        EverythingButHidden(),  # type: ignore[arg-type]
        ids,
        Backlog[Frame](events, size),
        StreamCounters(),
        rebuild=rebuild or nothing,
        unforeseen=unforeseen,
    )
    return Dispatcher(channel, heartbeat=heartbeat)


class EndingsOf:
    """The owner of a subscriber of `dispatcher`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.subscriber: Subscriber
        self.endings: list[Ending] = []
        self._dispatcher = dispatcher

    def subscriber_ended(self, ending: Ending) -> None:
        self.endings.append(ending)
        self._dispatcher.remove(self.subscriber)


def join(
    to: Dispatcher,
    place: int = 0,
    room: int = 1 << 30,
    gap: GapCause | None = None,
    sink: BufferSink | None = None,
) -> tuple[Subscriber, BufferSink]:
    sink = sink or BufferSink(room)
    owner = EndingsOf(to)
    owner.subscriber = subscriber = Subscriber(to.channel, sink, Start(place, gap), owner)
    sink.subscriber = subscriber
    to.add(subscriber)
    subscriber.start()
    return subscriber, sink


async def turn() -> None:
    """Let what was scheduled for the next turn of the loop happen."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_rules_run_once_however_many_subscribers_there_are() -> None:
    one = dispatcher()
    sinks = [join(one)[1] for _ in range(10)]
    one.publish([chunk("a"), chunk("b", 1)])
    await turn()
    assert {sink.written for sink in sinks} == {sinks[0].written}
    assert sinks[0].data == ['["step_stream","draft","a"]', '["step_stream","draft","b"]']
    assert one.channel.rules.asked == 2  # type: ignore[attr-defined]
    assert one.channel.counts.frames == 20
    assert one.channel.counts.bytes == sum(len(sink.written) for sink in sinks)


async def test_a_subscriber_gets_the_backlog_and_then_what_is_published() -> None:
    one = dispatcher()
    one.publish([chunk("a")])
    _, sink = join(one)
    one.publish([chunk("b", 1)])
    await turn()
    assert sink.ids == [1, 2]


async def test_a_subscriber_that_keeps_up_loses_nothing_to_a_frame_of_the_same_turn() -> None:
    for one in (dispatcher(size=4096), dispatcher(events=2)):
        _, sink = join(one)
        one.publish([chunk("first"), chunk("x" * 100_000, 1), chunk("then", 2), chunk("last", 3)])
        await turn()
        assert sink.ids == [1, 2, 3, 4]
        assert b"stream.gap" not in sink.written


async def test_a_subscriber_that_reconnects_gets_the_later_frames() -> None:
    one = dispatcher()
    one.publish([chunk("a"), chunk("b", 1), chunk("c", 2)])
    _, sink = join(one, place=2)
    assert sink.ids == [3]


async def test_the_end_is_written_once_and_ends_every_subscriber() -> None:
    one = dispatcher()
    subscriber, sink = join(one)
    one.publish([completed("draft"), End("completed")])
    await turn()
    assert subscriber.ending is Ending.END
    assert sink.written.endswith(b'.end\nevent: stream.end\ndata: {"status":"completed"}\n\n')
    late, late_sink = join(one)
    assert late.ending is Ending.END
    assert late_sink.written == sink.written
    assert one.subscribers == set()


async def test_a_gap_repeats_the_last_id_and_hidden_steps_have_none() -> None:
    one = dispatcher()
    _, sink = join(one)
    items: list[Item] = [
        chunk("a"),
        StepGap(GapCause.UPSTREAM, "draft", 1, 3),
        StepGap(GapCause.UPSTREAM, "hidden", 1, 3),
        Reset("draft", 2),
        Reset("hidden", 2),
    ]
    one.publish(items)
    await turn()
    assert sink.ids == [1, 1, 3]
    assert one.channel.counts.resets == 1
    assert one.channel.counts.gaps == {"upstream": 1}
    assert sink.data[1:] == [
        '{"cause":"upstream","step":"draft","attempt":1,"missed":3}',
        '{"step":"draft","attempt":2}',
    ]


async def test_a_late_subscriber_gets_a_gap_for_evicted_chunks_and_every_lifecycle_frame() -> None:
    one = dispatcher(events=4)
    one.publish([completed("first"), *(chunk(str(number), number) for number in range(10))])
    _, sink = join(one)
    assert sink.data[0] == '["step_completed","first",{}]'
    assert sink.data[1] == '{"cause":"backlog","step":"draft","attempt":1,"missed":7}'
    assert sink.ids == [1, 1, 9, 10, 11]


async def test_only_the_slow_subscriber_gets_a_gap() -> None:
    one = dispatcher(events=4)
    slow, slow_sink = join(one, room=1)
    _, fast_sink = join(one)
    for number in range(10):
        one.publish([chunk(str(number), number)])
        await turn()
    assert fast_sink.ids == list(range(1, 11))
    assert slow_sink.ids == [1]
    slow_sink.resume()
    assert slow_sink.ids == [1, 1, 7, 8, 9, 10]
    assert '"cause":"slow_client"' in slow_sink.data[1]
    assert slow.place == 10


async def test_a_paused_subscriber_that_resumes_in_time_misses_nothing() -> None:
    one = dispatcher()
    _, sink = join(one, room=1)
    for number in range(10):
        one.publish([chunk(str(number), number)])
        await turn()
    sink.resume()
    assert sink.ids == list(range(1, 11))


async def test_nothing_is_written_to_a_subscriber_that_is_up_to_date() -> None:
    one = dispatcher()
    join(one)
    one.publish([chunk("a")])
    _, sink = join(one)  # before the flush: it has all that is there
    written = sink.written

    def write(body: bytes) -> None:
        raise AssertionError(f"was handed {body!r}")

    sink.write = write  # type: ignore[method-assign]
    await turn()
    assert sink.written == written
    assert sink.ids == [1]


async def test_the_bytes_of_one_write_are_bounded() -> None:
    one = dispatcher(size=1 << 30)
    one.publish([chunk("x" * (BATCH // 2), number) for number in range(8)])
    _, sink = join(one, room=BATCH // 4)
    assert len(sink.written) < 2 * BATCH
    sink.resume()
    assert sink.ids == list(range(1, 9))


async def test_more_than_one_write_of_frames_reaches_all_subscribers_whole() -> None:
    one = dispatcher(size=1 << 30)
    sinks = [join(one)[1] for _ in range(3)]
    one.publish([chunk("x" * (BATCH // 2), number) for number in range(8)])
    await turn()
    assert {tuple(sink.ids) for sink in sinks} == {tuple(range(1, 9))}


async def test_a_subscriber_ends_once_with_the_first_ending() -> None:
    one = dispatcher()
    owner = EndingsOf(one)
    owner.subscriber = subscriber = Subscriber(one.channel, BufferSink(), Start(0), owner)
    subscriber.start()
    subscriber.finish(Ending.STUCK)
    subscriber.finish(Ending.LEFT)
    assert owner.endings == [Ending.STUCK]
    assert subscriber.ending is Ending.STUCK


async def test_a_subscriber_that_leaves_during_a_recovery_is_written_nothing() -> None:
    answer = asyncio.Event()

    async def rebuild() -> list[Event]:
        await answer.wait()
        return [completed(f"step {number}") for number in range(10)]

    one = dispatcher(events=4, rebuild=rebuild)
    one.publish([completed(f"step {number}") for number in range(10)])
    subscriber, sink = join(one)
    await turn()
    subscriber.finish(Ending.LEFT)
    answer.set()
    await turn()
    assert sink.written == b""


async def test_a_recovery_that_is_tried_again_writes_each_frame_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.streams.subscriber.RECOVERY_PAUSE", 0)
    asked = 0

    async def rebuild() -> list[Event]:
        nonlocal asked
        asked += 1
        if asked == 1:
            one.publish([completed(f"step {number}") for number in range(10, 20)])
            raise HatchetAway("refused")
        return [completed(f"step {number}") for number in range(20)]

    one = dispatcher(events=4, rebuild=rebuild)
    one.publish([completed(f"step {number}") for number in range(10)])
    _, sink = join(one)
    async with asyncio.timeout(10):
        while 20 not in sink.ids:
            await asyncio.sleep(0)
    assert sink.ids == list(range(1, 21))


async def test_a_heartbeat_is_only_due_after_silence() -> None:
    one = dispatcher(heartbeat=1000.0)
    _, sink = join(one)
    one._check_heartbeat()
    assert sink.written == b""
    one._written_at -= 1000.0
    one._check_heartbeat()
    assert sink.written == b":\n"
    one._written_at -= 1000.0
    one.publish([chunk("a")])
    await turn()
    one._check_heartbeat()
    assert sink.written.startswith(b":\nid: ")
    assert not sink.written.endswith(b":\n"), "a frame was written since"
    one.close()


async def test_a_client_that_comes_after_a_time_without_any_gets_heartbeats_and_meanwhile_no_timer_runs() -> (
    None
):
    one = dispatcher(heartbeat=0.02)
    first, _ = join(one)
    one.remove(first)
    await until(lambda: one._timer is None)
    _, sink = join(one)
    await until(lambda: sink.written.count(b":\n") >= 2)
    one.close()
    assert one._timer is None


async def test_a_paused_subscriber_gets_no_heartbeat_and_one_in_recovery_does() -> None:
    one = dispatcher()
    subscriber, sink = join(one)
    subscriber.pause(0.0)
    subscriber.beat(b":\n")
    assert sink.written == b""
    subscriber.resume()
    subscriber.recovering = True
    subscriber.beat(b":\n")
    assert sink.written == b":\n"


async def test_forgotten_lifecycle_frames_are_made_again_with_their_own_ids() -> None:
    async def rebuild() -> list[Event]:
        return [completed(f"step {number}") for number in range(10)]

    one = dispatcher(events=4, rebuild=rebuild)
    one.publish([completed(f"step {number}") for number in range(10)])
    _, sink = join(one)
    await turn()
    assert sink.ids == list(range(1, 11))
    assert [orjson.loads(text)[1] for text in sink.data] == [f"step {number}" for number in range(10)]


async def test_frames_that_are_evicted_during_a_recovery_are_not_skipped() -> None:
    asked = asyncio.Event()
    rebuilt = asyncio.Event()

    async def rebuild() -> list[Event]:
        asked.set()
        await rebuilt.wait()
        return [completed(f"step {number}") for number in range(20)]

    one = dispatcher(events=4, rebuild=rebuild)
    one.publish([completed(f"step {number}") for number in range(10)])
    _, sink = join(one)
    await asked.wait()
    one.publish([completed(f"step {number}") for number in range(10, 20)])
    rebuilt.set()
    for _ in range(5):
        await turn()
    assert sink.ids == list(range(1, 21))


async def test_forgotten_frames_that_cannot_be_made_again_are_announced() -> None:
    async def rebuild() -> list[Event]:
        return [completed("step 0")]

    one = dispatcher(events=4, rebuild=rebuild)
    one.publish([completed(f"step {number}") for number in range(10)])
    _, sink = join(one)
    await turn()
    assert '{"cause":"backlog","step":null,"attempt":null,"missed":null}' in sink.data
    assert sink.ids[0] == 0
    assert sink.ids[-1] == 10


async def test_while_hatchet_is_away_only_the_subscriber_that_lacks_forgotten_frames_waits() -> None:
    async def away() -> list[Event]:
        raise HatchetAway("refused")

    one = dispatcher(events=4, rebuild=away)
    one.publish([completed(f"step {number}") for number in range(10)])
    subscriber, sink = join(one)
    _, other = join(one, place=10)
    one.publish([chunk("live")])
    await turn()
    assert subscriber.recovering
    assert sink.ids == []
    assert other.data == ['["step_stream","draft","live"]']
    subscriber.finish(Ending.LEFT)


async def test_the_first_gap_comes_before_all_frames() -> None:
    one = dispatcher()
    one.publish([chunk("a")])
    _, sink = join(one, gap=GapCause.UNKNOWN_CURSOR)
    assert sink.data[0] == '{"cause":"unknown_cursor","step":null,"attempt":null,"missed":null}'
    assert sink.ids == [0, 1]


async def test_a_subscriber_that_leaves_during_a_round_harms_no_other() -> None:
    one = dispatcher()
    subscribers = [join(one) for _ in range(5)]

    class Leaving(BufferSink):
        def write(self, body: bytes) -> None:
            super().write(body)
            for subscriber, _ in subscribers:
                subscriber.finish(Ending.LEFT)

    leaving = Leaving()
    last, _ = join(one, sink=leaving)
    one.publish([chunk("a")])
    await turn()
    assert leaving.ids == [1]
    assert one.subscribers == {last}


async def test_a_forgotten_reset_is_written_in_its_place() -> None:
    one = dispatcher(events=6)
    one.publish([chunk("a"), Reset("draft", 2)])
    one.publish([completed(f"step{number}") for number in range(8)])
    one.publish([chunk("b", attempt=2)])
    await turn()
    assert Reset("draft", 2) in one.channel.backlog.forgotten(0)
    _, sink = join(one)
    await turn()
    assert '{"step":"draft","attempt":2}' in sink.data
    assert sink.data.index('{"step":"draft","attempt":2}') < sink.data.index('["step_stream","draft","b"]')


async def first_part(sinks: list[BufferSink]) -> list[BufferSink]:
    """Let the loop turn until some were handed something; the others."""
    async with asyncio.timeout(5):
        while not any(sink.written for sink in sinks):
            await asyncio.sleep(0)
    return [sink for sink in sinks if not sink.written]


async def parts(sinks: Sequence[BufferSink]) -> list[int]:
    """How many of them written something in each turn of the loop, until all have."""
    written = [0]
    async with asyncio.timeout(5):
        while written[-1] < len(sinks):
            await asyncio.sleep(0)
            written.append(sum(bool(sink.written) for sink in sinks))
    return [after - before for before, after in itertools.pairwise(written)]


async def test_a_round_for_very_many_takes_several_turns() -> None:
    one = dispatcher()
    sinks = [join(one)[1] for _ in range(2 * SUBSCRIBERS_PER_TURN + 10)]
    one.publish([chunk("a")])
    assert max(await parts(sinks)) == SUBSCRIBERS_PER_TURN
    await turn()
    assert {tuple(sink.ids) for sink in sinks} == {(1,)}


async def test_the_parts_of_a_channel_with_thousands_are_smaller() -> None:
    one = dispatcher()
    sinks = [join(one)[1] for _ in range(MANY + 10)]
    one.publish([chunk("a")])
    assert max(await parts(sinks)) == PER_TURN_OF_MANY < SUBSCRIBERS_PER_TURN


class CallingSink(BufferSink):
    """A sink that calls something when it is written to for the first time."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self.call = call

    def write(self, body: bytes) -> None:
        first = not self.written
        super().write(body)
        if first:
            self.call()


async def test_another_runs_event_waits_for_no_part_that_begins_after_it_was_read() -> None:
    ours, theirs = socket.socketpair()
    many, other = dispatcher(), dispatcher()
    sinks = [join(many)[1] for _ in range(MANY + 10)]
    join(many, sink=CallingSink(lambda: theirs.send(b"x")))  # during a part the other run's event comes
    written: list[int] = []

    def note() -> None:
        written.append(sum(bool(sink.written) for sink in sinks))

    def read() -> None:
        ours.recv(1)
        other.publish([chunk("b")])
        note()

    join(other, sink=CallingSink(note))
    with ours, theirs:
        asyncio.get_running_loop().add_reader(ours, read)
        many.publish([chunk("a")])
        await parts(sinks)
        asyncio.get_running_loop().remove_reader(ours)
    when_read, when_written = written
    assert when_read == when_written


async def test_what_is_published_during_a_round_reaches_all_in_order() -> None:
    one = dispatcher()
    sinks = [join(one)[1] for _ in range(2 * SUBSCRIBERS_PER_TURN + 10)]
    one.publish([chunk("a")])
    waiting = await first_part(sinks)
    one.publish([chunk("b", 1), End("completed")])
    late = join(one)[1]
    await turn()
    assert len(waiting) == SUBSCRIBERS_PER_TURN + 10
    received = {(*sink.ids, sink.data[-1]) for sink in [*sinks, late]}
    assert received == {(1, 2, '{"status":"completed"}')}
    assert not one.subscribers


async def test_a_subscriber_that_waits_for_its_turn_loses_nothing() -> None:
    one = dispatcher(size=8000)
    sinks = [join(one)[1] for _ in range(2 * SUBSCRIBERS_PER_TURN)]
    one.publish([chunk("a" * 2000)])
    waiting = await first_part(sinks)
    one.publish([chunk("b" * 7000, 1), chunk("c", 2)])
    await turn()
    assert waiting
    assert {tuple(sink.ids) for sink in sinks} == {(1, 2, 3)}
    assert not any("gap" in sink.written.decode() for sink in sinks)


async def test_a_subscriber_that_leaves_before_its_turn_gets_nothing() -> None:
    one = dispatcher()
    joined = [join(one) for _ in range(2 * SUBSCRIBERS_PER_TURN)]
    one.publish([chunk("a")])
    await first_part([sink for _, sink in joined])
    left = [(subscriber, sink) for subscriber, sink in joined if not sink.written]
    for subscriber, _ in left:
        subscriber.finish(Ending.LEFT)
    await turn()
    assert len(left) == SUBSCRIBERS_PER_TURN
    assert not any(sink.written for _, sink in left)


async def test_heartbeats_for_very_many_take_several_turns() -> None:
    one = dispatcher(heartbeat=0.02)
    sinks = [join(one)[1] for _ in range(2 * SUBSCRIBERS_PER_TURN + 10)]
    assert max(await parts(sinks)) == SUBSCRIBERS_PER_TURN
    one.close()


async def test_a_subscriber_that_leaves_during_a_round_of_heartbeats_gets_none() -> None:
    one = dispatcher(heartbeat=0.02)
    joined = [join(one) for _ in range(2 * SUBSCRIBERS_PER_TURN)]
    async with asyncio.timeout(5):
        while not any(sink.written for _, sink in joined):
            await asyncio.sleep(0)
    left = [(subscriber, sink) for subscriber, sink in joined if not sink.written]
    for subscriber, _ in left:
        subscriber.finish(Ending.LEFT)
    await turn()
    assert len(left) == SUBSCRIBERS_PER_TURN
    assert not any(sink.written for _, sink in left)
    one.close()


# -- exceptions that should not be possible


class BrokenSink(BufferSink):
    """A sink that raises at each write."""

    def write(self, body: bytes) -> None:
        raise RuntimeError("broken")

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        raise RuntimeError("broken")


async def test_an_event_whose_frame_cannot_be_made_costs_that_frame_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[Exception] = []
    one = dispatcher(unforeseen=errors.append)
    _, sink = join(one)
    rules = one.channel.rules
    message = rules.message

    def broken_for_b(event: Event, decoded: Any = None) -> Message | None:
        if event.payload == "b":
            raise RecursionError
        return message(event, decoded)

    monkeypatch.setattr(rules, "message", broken_for_b)
    one.publish([chunk("a"), chunk("b", 1), chunk("c", 2), End("completed")])
    await turn()
    assert sink.data == [
        '["step_stream","draft","a"]',
        '["step_stream","draft","c"]',
        '{"status":"completed"}',
    ]
    assert [type(error) for error in errors] == [RecursionError]


@pytest.mark.parametrize("shared", [True, False])
async def test_a_subscriber_that_cannot_be_written_to_ends_and_the_others_go_on(shared: bool) -> None:
    errors: list[Exception] = []
    one = dispatcher(unforeseen=errors.append)
    _, before = join(one)
    broken, _ = join(one, sink=BrokenSink())
    _, after = join(one)
    if not shared:
        broken.place = -1
    for number in range(3):
        one.publish([chunk(str(number), number)])
        await turn()
    assert before.data == after.data
    assert len(before.data) == 3
    assert broken.ending is Ending.FAILED
    assert len(errors) == 1


async def test_a_heartbeat_that_cannot_be_written_does_not_stop_the_others() -> None:
    one = dispatcher(heartbeat=0.01, unforeseen=lambda error: None)
    broken, _ = join(one, sink=BrokenSink())
    _, sink = join(one)
    await until(lambda: sink.written.count(b":\n") >= 3)
    assert broken.ending is Ending.FAILED


async def test_a_recovery_that_fails_unforeseen_ends_the_stream_instead_of_silencing_it() -> None:
    async def rebuild() -> list[Event]:
        raise KeyError("step")

    errors: list[Exception] = []
    one = dispatcher(events=4, rebuild=rebuild, unforeseen=errors.append)
    one.publish([completed(f"step {number}") for number in range(20)])
    subscriber, _ = join(one)
    await turn()
    assert subscriber.ending is Ending.FAILED
    assert [type(error) for error in errors] == [KeyError]


async def test_a_subscriber_that_has_room_again_and_cannot_be_written_to_ends() -> None:
    one = dispatcher(unforeseen=lambda error: None)
    subscriber, sink = join(one, sink=BrokenSink())
    subscriber.pause(0.0)
    one.publish([chunk("a")])
    await turn()
    assert subscriber.ending is None
    subscriber.resume()
    assert subscriber.ending is Ending.FAILED
    assert sink.written == b""


# -- the gaps that a client was sent, for its log line


async def test_a_client_counts_the_gaps_that_it_was_sent_by_cause() -> None:
    one = dispatcher(events=8)
    early, _ = join(one)
    one.publish(
        [chunk("a"), StepGap(GapCause.UPSTREAM, "draft", 1, 2), StepGap(GapCause.UPSTREAM, "draft", 1, 1)]
    )
    await turn()
    back, _ = join(one, place=2, gap=GapCause.UNKNOWN_CURSOR)
    one.publish([StepGap(GapCause.JOINED_LATE, "draft", 1, None)])
    await turn()
    assert early.gaps == {"upstream": 2, "joined_late": 1}
    assert back.gaps == {"upstream": 1, "joined_late": 1, "unknown_cursor": 1}


async def test_a_slow_client_counts_what_it_missed_and_a_hidden_steps_gap_counts_for_nobody() -> None:
    one = dispatcher(events=8)
    slow, _ = join(one)
    quick, _ = join(one)
    slow.pause(0.0)
    one.publish([StepGap(GapCause.UPSTREAM, "hidden", 1, 1)])
    for number in range(40):
        one.publish([chunk(str(number), number)])
        await turn()
    slow.resume()
    assert slow.gaps == {"slow_client": 1}
    assert quick.gaps == {}


async def test_the_places_of_gaps_are_bounded() -> None:
    one = dispatcher(events=8)
    subscriber, _ = join(one)
    for _ in range(3):
        one.publish([StepGap(GapCause.UPSTREAM, "draft", 1, 1)] * MOST_NOTICES)
        await turn()
    assert MOST_NOTICES / 2 <= subscriber.gaps["upstream"] <= MOST_NOTICES
