"""One stream on one run: items in, the same bytes to every reader, gaps to those who were too slow."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence

import orjson

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.hatchet.errors import HatchetAway
from proxy.log.cursor import Ids
from proxy.observability.counters import StreamCounters
from proxy.rules.ruleset import Message
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import BATCH, HANDS, Channel
from proxy.streams.subscriber import Ending, Reader

RUN = "d8ed70df-0872-463a-9a78-d6bd88db0b34"


class EverythingButHidden:
    """Rules that forward all steps but `hidden`, and count how often they are asked."""

    fingerprint = "f"

    def __init__(self) -> None:
        self.asked = 0

    def message(self, event: Event, sight: object = None) -> Message | None:
        self.asked += 1
        if event.step == "hidden":
            return None
        return Message("rules[0]", None, orjson.dumps([event.type, event.step, event.payload]))

    def forwards_chunks(self, step: str) -> bool:
        return step != "hidden"


class Ear:
    """A sink that keeps what it hears; full once it holds `room` bytes, until it is emptied."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.heard = b""
        self.room = room
        self.reader: Reader | None = None

    def write(self, body: bytes) -> None:
        self.heard += body
        if len(self.heard) > self.room and self.reader is not None and not self.reader.paused:
            self.reader.pause(0.0)

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        assert chunk == b"%x\r\n%b\r\n" % (len(body), body)
        self.write(body)

    def resume(self) -> None:
        self.room = 1 << 30
        assert self.reader is not None
        self.reader.resume()

    @property
    def data(self) -> list[str]:
        return re.findall(r"^data: (.*)$", self.heard.decode(), re.M)

    @property
    def ids(self) -> list[int]:
        return [int(place) for place in re.findall(r"^id: .*\.(\d+)$", self.heard.decode(), re.M)]


def chunk(text: str, index: int = 0, step: str = "draft", attempt: int = 1) -> Event:
    return Event("step_stream", RUN, step, "id-" + step, text, attempt, index)


def completed(step: str) -> Event:
    return Event("step_completed", RUN, step, "id-" + step, {}, 1)


def channel(
    events: int = 1000,
    size: int = 1 << 20,
    restate: Callable[[], object] | None = None,
    heartbeat: float = 15.0,
) -> Channel:
    async def nothing() -> list[Event]:
        return []

    ids = Ids(b"secret", team="t", stream="s", run_id=RUN, value="", rules="r", life=1)
    return Channel(
        EverythingButHidden(),  # type: ignore[arg-type]
        ids,
        Backlog[Frame](events, size),
        StreamCounters(),
        heartbeat=heartbeat,
        restate=restate or nothing,
    )


def join(to: Channel, place: int = 0, room: int = 1 << 30, gap: GapCause | None = None) -> tuple[Reader, Ear]:
    ear = Ear(room)
    reader = Reader(to, ear, place, over=lambda ending: None, gap=gap)
    ear.reader = reader
    reader.begin()
    return reader, ear


async def turn() -> None:
    """Let what was scheduled for the next turn of the loop happen."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_rules_run_once_however_many_readers_there_are() -> None:
    one = channel()
    ears = [join(one)[1] for _ in range(10)]
    one.offer([chunk("a"), chunk("b", 1)])
    await turn()
    assert {ear.heard for ear in ears} == {ears[0].heard}
    assert ears[0].data == ['["step_stream","draft","a"]', '["step_stream","draft","b"]']
    assert one.rules.asked == 2  # type: ignore[attr-defined]
    assert one.counts.frames == 20


async def test_a_reader_gets_what_is_kept_and_then_what_comes() -> None:
    one = channel()
    one.offer([chunk("a")])
    _, ear = join(one)
    one.offer([chunk("b", 1)])
    await turn()
    assert ear.ids == [1, 2]


async def test_who_keeps_up_loses_nothing_to_a_frame_that_came_in_the_same_turn() -> None:
    for one in (channel(size=4096), channel(events=2)):
        _, ear = join(one)
        one.offer([chunk("first"), chunk("x" * 100_000, 1), chunk("then", 2), chunk("last", 3)])
        await turn()
        assert ear.ids == [1, 2, 3, 4]
        assert b"stream.gap" not in ear.heard


async def test_a_reader_that_comes_back_gets_what_is_later() -> None:
    one = channel()
    one.offer([chunk("a"), chunk("b", 1), chunk("c", 2)])
    _, ear = join(one, place=2)
    assert ear.ids == [3]


async def test_the_end_is_told_once_and_ends_every_reader() -> None:
    one = channel()
    reader, ear = join(one)
    one.offer([completed("draft"), End("completed")])
    await turn()
    assert reader.ending is Ending.END
    assert ear.heard.endswith(b'.end\nevent: stream.end\ndata: {"status":"completed"}\n\n')
    late, late_ear = join(one)
    assert late.ending is Ending.END
    assert late_ear.heard == ear.heard
    assert one.readers == set()


async def test_a_gap_repeats_the_id_where_the_reader_stands_and_hides_hidden_steps() -> None:
    one = channel()
    _, ear = join(one)
    items: list[Item] = [
        chunk("a"),
        StepGap(GapCause.UPSTREAM, "draft", 1, 3),
        StepGap(GapCause.UPSTREAM, "hidden", 1, 3),
        Reset("draft", 2),
        Reset("hidden", 2),
    ]
    one.offer(items)
    await turn()
    assert ear.ids == [1, 1, 3]
    assert ear.data[1:] == [
        '{"cause":"upstream","step":"draft","attempt":1,"missed":3}',
        '{"step":"draft","attempt":2}',
    ]


async def test_a_late_reader_is_told_which_chunks_are_gone_and_gets_every_lifecycle_frame() -> None:
    one = channel(events=4)
    one.offer([completed("first"), *(chunk(str(number), number) for number in range(10))])
    _, ear = join(one)
    assert ear.data[0] == '{"cause":"backlog","step":"draft","attempt":1,"missed":7}'
    assert ear.data[1] == '["step_completed","first",{}]'
    assert ear.ids == [0, 1, 9, 10, 11]


async def test_a_slow_reader_is_told_what_it_missed_and_nobody_else_is() -> None:
    one = channel(events=4)
    slow, slow_ear = join(one, room=1)
    _, fast_ear = join(one)
    for number in range(10):
        one.offer([chunk(str(number), number)])
        await turn()
    assert fast_ear.ids == list(range(1, 11))
    assert slow_ear.ids == [1]
    slow_ear.resume()
    assert slow_ear.ids == [1, 1, 7, 8, 9, 10]
    assert '"cause":"slow_client"' in slow_ear.data[1]
    assert slow.place == 10


async def test_a_paused_reader_that_resumes_in_time_misses_nothing() -> None:
    one = channel()
    _, ear = join(one, room=1)
    for number in range(10):
        one.offer([chunk(str(number), number)])
        await turn()
    ear.resume()
    assert ear.ids == list(range(1, 11))


async def test_nobody_is_handed_nothing() -> None:
    one = channel()
    join(one)
    one.offer([chunk("a")])
    _, ear = join(one)  # before the flush: it has all that is there
    heard = ear.heard

    def write(body: bytes) -> None:
        raise AssertionError(f"was handed {body!r}")

    ear.write = write  # type: ignore[method-assign]
    await turn()
    assert ear.heard == heard
    assert ear.ids == [1]


async def test_what_is_handed_at_once_is_bounded() -> None:
    one = channel(size=1 << 30)
    one.offer([chunk("x" * (BATCH // 2), number) for number in range(8)])
    _, ear = join(one, room=BATCH // 4)
    assert len(ear.heard) < 2 * BATCH
    ear.resume()
    assert ear.ids == list(range(1, 9))


async def test_forgotten_lifecycle_frames_are_made_again_with_their_own_ids() -> None:
    async def restate() -> list[Event]:
        return [completed(f"step {number}") for number in range(10)]

    one = channel(events=4, restate=restate)
    one.offer([completed(f"step {number}") for number in range(10)])
    _, ear = join(one)
    await turn()
    assert ear.ids == list(range(1, 11))
    assert [orjson.loads(text)[1] for text in ear.data] == [f"step {number}" for number in range(10)]


async def test_what_falls_out_while_forgotten_frames_are_made_again_is_not_skipped() -> None:
    asked = asyncio.Event()
    told = asyncio.Event()

    async def restate() -> list[Event]:
        asked.set()
        await told.wait()
        return [completed(f"step {number}") for number in range(20)]

    one = channel(events=4, restate=restate)
    one.offer([completed(f"step {number}") for number in range(10)])
    _, ear = join(one)
    await asked.wait()
    one.offer([completed(f"step {number}") for number in range(10, 20)])
    told.set()
    for _ in range(5):
        await turn()
    assert ear.ids == list(range(1, 21))


async def test_forgotten_frames_that_cannot_be_made_again_are_announced() -> None:
    async def restate() -> list[Event]:
        return [completed("step 0")]

    one = channel(events=4, restate=restate)
    one.offer([completed(f"step {number}") for number in range(10)])
    _, ear = join(one)
    await turn()
    assert '{"cause":"backlog","step":null,"attempt":null,"missed":null}' in ear.data
    assert ear.ids[0] == 0
    assert ear.ids[-1] == 10


async def test_while_hatchet_is_away_a_reader_waits_for_forgotten_frames_and_the_others_do_not() -> None:
    async def away() -> list[Event]:
        raise HatchetAway("refused")

    one = channel(events=4, restate=away)
    one.offer([completed(f"step {number}") for number in range(10)])
    reader, ear = join(one)
    _, other = join(one, place=10)
    one.offer([chunk("live")])
    await turn()
    assert reader.busy
    assert ear.ids == []
    assert other.data == ['["step_stream","draft","live"]']
    reader.finish(Ending.LEFT)


async def test_a_gap_asked_for_comes_before_everything() -> None:
    one = channel()
    one.offer([chunk("a")])
    _, ear = join(one, gap=GapCause.UNKNOWN_CURSOR)
    assert ear.data[0] == '{"cause":"unknown_cursor","step":null,"attempt":null,"missed":null}'
    assert ear.ids == [0, 1]


async def test_a_reader_that_leaves_while_the_channel_walks_harms_nobody() -> None:
    one = channel()
    readers = [join(one) for _ in range(5)]

    class Leaving(Ear):
        def write(self, body: bytes) -> None:
            super().write(body)
            for reader, _ in readers:
                reader.finish(Ending.LEFT)

    leaving = Leaving()
    last = Reader(one, leaving, 0, over=lambda ending: None)
    leaving.reader = last
    last.begin()
    one.offer([chunk("a")])
    await turn()
    assert leaving.ids == [1]
    assert one.readers == {last}


async def test_a_reset_that_fell_out_too_is_told_in_its_place() -> None:
    one = channel(events=6)
    one.offer([chunk("a"), Reset("draft", 2)])
    one.offer([completed(f"step{number}") for number in range(8)])
    one.offer([chunk("b", attempt=2)])
    await turn()
    assert Reset("draft", 2) in one.backlog.forgotten(0)
    _, ear = join(one)
    await turn()
    assert '{"step":"draft","attempt":2}' in ear.data
    assert ear.data.index('{"step":"draft","attempt":2}') < ear.data.index('["step_stream","draft","b"]')


async def first_part(ears: list[Ear]) -> list[Ear]:
    """Let the loop turn until some were handed something; the others."""
    async with asyncio.timeout(5):
        while not any(ear.heard for ear in ears):
            await asyncio.sleep(0)
    return [ear for ear in ears if not ear.heard]


async def parts(ears: Sequence[Ear]) -> list[int]:
    """How many of them heard something in each turn of the loop, until all have."""
    heard = [0]
    async with asyncio.timeout(5):
        while heard[-1] < len(ears):
            await asyncio.sleep(0)
            heard.append(sum(bool(ear.heard) for ear in ears))
    return [after - before for before, after in itertools.pairwise(heard)]


async def test_an_event_for_very_many_is_handed_out_a_part_a_turn() -> None:
    one = channel()
    ears = [join(one)[1] for _ in range(2 * HANDS + 10)]
    one.offer([chunk("a")])
    assert max(await parts(ears)) == HANDS
    await turn()
    assert {tuple(ear.ids) for ear in ears} == {(1,)}


async def test_what_comes_while_a_round_is_under_way_reaches_everybody_in_order() -> None:
    one = channel()
    ears = [join(one)[1] for _ in range(2 * HANDS + 10)]
    one.offer([chunk("a")])
    waiting = await first_part(ears)
    one.offer([chunk("b", 1), End("completed")])
    late = join(one)[1]
    await turn()
    assert len(waiting) == HANDS + 10
    told = {(*ear.ids, ear.data[-1]) for ear in [*ears, late]}
    assert told == {(1, 2, '{"status":"completed"}')}
    assert not one.readers


async def test_who_waits_for_his_turn_loses_nothing_to_what_comes_meanwhile() -> None:
    one = channel(size=8000)
    ears = [join(one)[1] for _ in range(2 * HANDS)]
    one.offer([chunk("a" * 2000)])
    waiting = await first_part(ears)
    one.offer([chunk("b" * 7000, 1), chunk("c", 2)])
    await turn()
    assert waiting
    assert {tuple(ear.ids) for ear in ears} == {(1, 2, 3)}
    assert not any("gap" in ear.heard.decode() for ear in ears)


async def test_who_leaves_while_he_waits_for_his_turn_gets_nothing() -> None:
    one = channel()
    joined = [join(one) for _ in range(2 * HANDS)]
    one.offer([chunk("a")])
    await first_part([ear for _, ear in joined])
    left = [(reader, ear) for reader, ear in joined if not ear.heard]
    for reader, _ in left:
        reader.finish(Ending.LEFT)
    await turn()
    assert len(left) == HANDS
    assert not any(ear.heard for _, ear in left)


async def test_heartbeats_for_many_are_given_a_part_a_turn() -> None:
    one = channel(heartbeat=0.02)
    ears = [join(one)[1] for _ in range(2 * HANDS + 10)]
    assert max(await parts(ears)) == HANDS
    one.close()


async def test_who_leaves_in_the_middle_of_a_round_of_heartbeats_gets_none() -> None:
    one = channel(heartbeat=0.02)
    joined = [join(one) for _ in range(2 * HANDS)]
    async with asyncio.timeout(5):
        while not any(ear.heard for _, ear in joined):
            await asyncio.sleep(0)
    left = [(reader, ear) for reader, ear in joined if not ear.heard]
    for reader, _ in left:
        reader.finish(Ending.LEFT)
    await turn()
    assert len(left) == HANDS
    assert not any(ear.heard for _, ear in left)
    one.close()
